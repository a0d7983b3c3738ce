//! From a profile of the OCI runtime specification to BPF.

use std::io::{Read, Seek};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator, LinuxSyscall};

/// The built-in profile (OCI runtime specification, config-linux.md, seccomp).
pub const DEFAULT_PROFILE: &str = include_str!("default.json");

/// A profile that cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Not a profile of the OCI runtime specification.
    #[error("not a seccomp profile of the OCI runtime specification")]
    Parse(#[source] serde_json::Error),
    /// An action or architecture this version does not support.
    #[error("seccomp profile: {0} is not supported")]
    Unsupported(String),
    /// libseccomp refused a rule.
    #[error("seccomp profile: cannot add {what}")]
    Rule {
        /// Which one.
        what: String,
        /// Why.
        source: libseccomp::error::SeccompError,
    },
    /// The compiled filter could not be taken out of libseccomp.
    #[error("cannot export the compiled seccomp filter")]
    Export(#[source] std::io::Error),
}

/// Compiles a profile (JSON) to the BPF program that seccomp(2) loads, for the architectures of
/// the profile or the native one. System calls that this libseccomp does not know are passed over:
/// profiles name those of newer kernels.
///
/// # Errors
/// Malformed profiles, unsupported actions, what libseccomp refuses.
pub fn compile(profile: &str) -> Result<Vec<u8>, CompileError> {
    let profile: LinuxSeccomp = serde_json::from_str(profile).map_err(CompileError::Parse)?;
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut filter = ScmpFilterContext::new(default).map_err(|source| CompileError::Rule {
        what: "default action".into(),
        source,
    })?;
    for arch in profile.architectures().iter().flatten() {
        let arch = architecture(*arch)?;
        filter.add_arch(arch).map_err(|source| CompileError::Rule {
            what: format!("{arch:?}"),
            source,
        })?;
    }
    for rule in profile.syscalls().iter().flatten() {
        add(&mut filter, rule, default)?;
    }
    export(&filter)
}

fn add(filter: &mut ScmpFilterContext, rule: &LinuxSyscall, default: ScmpAction) -> Result<(), CompileError> {
    let action = action(rule.action(), rule.errno_ret())?;
    if action == default {
        return Ok(());
    }
    for name in rule.names() {
        let Ok(syscall) = ScmpSyscall::from_name(name) else {
            continue;
        };
        let added = match rule.args() {
            Some(args) if !args.is_empty() => {
                let args: Vec<ScmpArgCompare> = args.iter().map(compare).collect();
                filter.add_rule_conditional(action, syscall, &args)
            }
            Some(_) | None => filter.add_rule(action, syscall),
        };
        added.map_err(|source| CompileError::Rule {
            what: name.clone(),
            source,
        })?;
    }
    Ok(())
}

fn compare(arg: &oci_spec::runtime::LinuxSeccompArg) -> ScmpArgCompare {
    let op = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        LinuxSeccompOperator::ScmpCmpMaskedEq => ScmpCompareOp::MaskedEqual(arg.value()),
    };
    let datum = match arg.op() {
        LinuxSeccompOperator::ScmpCmpMaskedEq => arg.value_two().unwrap_or(0),
        _ => arg.value(),
    };
    ScmpArgCompare::new(u32::try_from(arg.index()).unwrap_or(u32::MAX), op, datum)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, CompileError> {
    let errno = errno.and_then(|e| i32::try_from(e).ok()).unwrap_or(libc::EPERM);
    match action {
        LinuxSeccompAction::ScmpActAllow => Ok(ScmpAction::Allow),
        LinuxSeccompAction::ScmpActErrno => Ok(ScmpAction::Errno(errno)),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => Ok(ScmpAction::KillThread),
        LinuxSeccompAction::ScmpActKillProcess => Ok(ScmpAction::KillProcess),
        LinuxSeccompAction::ScmpActTrap => Ok(ScmpAction::Trap),
        LinuxSeccompAction::ScmpActLog => Ok(ScmpAction::Log),
        other => Err(CompileError::Unsupported(format!("action {other:?}"))),
    }
}

fn architecture(arch: Arch) -> Result<ScmpArch, CompileError> {
    match arch {
        Arch::ScmpArchNative => Ok(ScmpArch::Native),
        Arch::ScmpArchX86_64 => Ok(ScmpArch::X8664),
        Arch::ScmpArchX86 => Ok(ScmpArch::X86),
        Arch::ScmpArchX32 => Ok(ScmpArch::X32),
        Arch::ScmpArchAarch64 => Ok(ScmpArch::Aarch64),
        Arch::ScmpArchArm => Ok(ScmpArch::Arm),
        other => Err(CompileError::Unsupported(format!("architecture {other:?}"))),
    }
}

fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>, CompileError> {
    let mut file = tempfile::tempfile().map_err(CompileError::Export)?;
    filter.export_bpf(&file).map_err(|source| CompileError::Rule {
        what: "the program".into(),
        source,
    })?;
    let mut program = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut program))
        .map_err(CompileError::Export)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_compiles_to_instructions() {
        let program = compile(DEFAULT_PROFILE).unwrap();
        assert!(
            program.len().is_multiple_of(8) && program.len() > 80,
            "{}",
            program.len()
        );
        assert_eq!(
            program,
            compile(DEFAULT_PROFILE).unwrap(),
            "staging is reproducible"
        );
    }

    #[test]
    fn profiles_for_newer_kernels_still_compile() {
        let rule = |names: &str| {
            let action = "\"action\": \"SCMP_ACT_ERRNO\"";
            format!(
                "{{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{{\"names\": {names}, {action}}}]}}"
            )
        };
        compile(&rule("[\"no_such_call\", \"bpf\"]")).unwrap();
        let bad = [
            "{}".to_owned(),
            "[".to_owned(),
            rule("7"),
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(),
        ];
        for profile in bad {
            assert!(compile(&profile).is_err(), "{profile}");
        }
    }
}
