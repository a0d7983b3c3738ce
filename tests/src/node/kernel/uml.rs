//! user-mode-linux: the kernel as a process of the host, with one CPU at nearly native speed.

use super::MEMORY_MIB;
use crate::kernels::Kernels;
use crate::lab;
use crate::node::record::Record;

/// The kernel with its arguments; standard output is its console, descriptor 3 its second serial line.
pub(super) fn command(record: &Record, kernels: &Kernels) -> Vec<String> {
    let mut words = vec![
        kernels.uml().display().to_string(),
        format!("mem={MEMORY_MIB}M"),
        format!("ubd0={}", record.image().display()),
        format!(
            "vec0:transport=tap,ifname={},depth=128,gro=1",
            lab::port(record.name.as_str())
        ),
        "con=null".to_owned(),
        "con0=null,fd:1".to_owned(),
        "ssl=null".to_owned(),
        "ssl1=null,fd:3".to_owned(),
        format!("uml_dir={}", record.disk().display()),
        "umid=uml".to_owned(),
    ];
    words.extend(super::parameters(record, "/dev/ubda"));
    words
}
