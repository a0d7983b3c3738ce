//! A registry that answers what the test tells it to: an HTTP server of one thread per connection,
//! one request per connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// First byte of a `Range` header.
    pub fn offset(&self) -> usize {
        let value = self
            .header("range")
            .and_then(|value| value.strip_prefix("bytes="));
        value
            .and_then(|value| value.trim_end_matches('-').parse().ok())
            .unwrap_or(0)
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The length claimed, if another than the body's.
    pub length: Option<usize>,
    /// No length at all, and bytes without end.
    pub endless: bool,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Answer {
            status,
            ..Answer::default()
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Answer {
            status: 200,
            body: body.into(),
            ..Answer::default()
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The rest of `body` from what was asked for, as a good server sends it.
    pub fn range(asked: &Asked, body: &[u8]) -> Self {
        let offset = asked.offset();
        if offset == 0 {
            return Answer::ok(body);
        }
        let range = format!("bytes {offset}-{}/{}", body.len() - 1, body.len());
        Answer {
            status: 206,
            ..Answer::ok(&body[offset..])
        }
        .header("Content-Range", range)
    }

    /// Claims the whole body and sends `count` bytes of it.
    pub fn cut(mut self, count: usize) -> Self {
        self.length = Some(self.body.len());
        self.body.truncate(count);
        self
    }
}

type Behaviour = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The server; ends with the value.
pub struct Liar {
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Liar {
    pub fn start(behaviour: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let host = listener.local_addr().expect("its address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (log, stopping) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let (log, behaviour) = (Arc::clone(&log), Arc::clone(&behaviour));
                std::thread::spawn(move || {
                    // A client that goes away is part of many tests.
                    let _ = serve(stream, &log, behaviour.as_ref());
                });
            }
        });
        Liar {
            host,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("unpoisoned").clone()
    }

    /// How often a path with this ending was asked for.
    pub fn count(&self, ending: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.path.ends_with(ending))
            .count()
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, behaviour: &Behaviour) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let asked = Asked {
        method,
        path,
        headers,
    };
    log.lock().expect("unpoisoned").push(asked.clone());
    let answer = behaviour(&asked);
    let mut stream = stream;
    let mut head = format!("HTTP/1.1 {} Test\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !answer.endless {
        head += &format!(
            "Content-Length: {}\r\n",
            answer.length.unwrap_or(answer.body.len())
        );
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if asked.method != "HEAD" {
        stream.write_all(&answer.body)?;
        if answer.endless {
            // Until the client has had enough and closes.
            loop {
                stream.write_all(&[b' '; 4096])?;
            }
        }
    }
    stream.flush()?;
    stream.shutdown(Shutdown::Write)
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept; if that fails, the thread has ended already.
        let _ = TcpStream::connect(&self.host);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
