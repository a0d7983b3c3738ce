//! What callers send over D-Bus, and what clients are answered: one of the known requests, which says the same after it
//! was written and read, or an error.

use node_agent::api::Event;
use node_agent::parameters::ParameterType;
use node_agent::protocol::{Failure, Report, Request};
use node_images::reference::Reference;

use super::image_documents::same_again;

const KINDS: [ParameterType; 6] = [
    ParameterType::String,
    ParameterType::Integer,
    ParameterType::Boolean,
    ParameterType::Ip,
    ParameterType::Url,
    ParameterType::List,
];

pub fn run(data: &[u8]) {
    same_again::<Report>(data);
    same_again::<Failure>(data);
    same_again::<Event>(data);
    let Ok(request) = std::str::from_utf8(data).unwrap_or_default().parse::<Request>() else {
        return;
    };
    assert_eq!(same_again::<Request>(data).as_ref(), Some(&request));
    assert!(!request.verb().is_empty());
    let json: serde_json::Value = serde_json::from_slice(data).expect("a request is JSON");
    assert_eq!(
        json["operation"].as_str(),
        Some(request.verb()),
        "a request for something else"
    );
    match &request {
        Request::Upgrade {
            reference: Some(text),
            ..
        }
        | Request::Plan {
            reference: Some(text),
        } => {
            if let Ok(reference) = text.parse::<Reference>() {
                assert_eq!(reference.to_string().parse::<Reference>().ok(), Some(reference));
            }
        }
        Request::Set { values } => values.iter().for_each(|(name, text)| check_value(name, text)),
        _ => {}
    }
}

/// What an operator types becomes a value of the parameter's type, and nothing that could be more than one line.
fn check_value(name: &str, text: &str) {
    for kind in KINDS {
        let Ok(value) = kind.parse(name, text) else {
            continue;
        };
        assert!(kind.accepts(&value));
        let lines = match &value {
            serde_json::Value::Array(list) => list.iter().filter_map(|item| item.as_str()).collect(),
            other => other.as_str().into_iter().collect::<Vec<_>>(),
        };
        assert!(
            lines.iter().all(|line| !line.contains(['\n', '\r', '\0'])),
            "{kind:?} takes {text:?}"
        );
    }
}
