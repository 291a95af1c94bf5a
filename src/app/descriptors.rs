//! File descriptors: one is a connection. A crowd that takes all of them would leave none for the stores and for the probes that tell
//! an operator so.

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits;

/// How many connections each listener may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionShare {
    pub(super) public: usize,
    pub(super) admin: usize,
}

/// Raises the soft limit to the hard one, and answers how many files this process may have open. Many machines keep the soft limit at
/// 1024 for the sake of programs that call `select`.
pub(super) fn raise() -> anyhow::Result<usize> {
    let found = getrlimit(Resource::Nofile);
    let Some(soft) = found.current else { return Ok(usize::MAX) };
    let hard = found.maximum;
    if hard.is_some_and(|hard| hard <= soft) {
        return Ok(usize::try_from(soft)?);
    }
    // Systems differ in the most that they take for "unlimited".
    let wanted = hard.unwrap_or(soft.max(u64::try_from(limits::CONNECTIONS_MAX * 2)?));
    let raised = Rlimit { current: Some(wanted), maximum: hard };
    setrlimit(Resource::Nofile, raised).with_context(|| format!("raise the limit of open files to {wanted}"))?;
    tracing::info!(from = soft, to = wanted, "raised the limit of open files from {soft} to {wanted}");
    Ok(usize::try_from(wanted)?)
}

/// Shares `open_files` between the listeners and the rest of the engine, and says so where a rush would not fit.
pub(super) fn share(open_files: usize) -> anyhow::Result<ConnectionShare> {
    let admin = limits::ADMIN_CONNECTIONS_MAX.min(open_files / 8);
    let public = open_files.saturating_sub(limits::OWN_DESCRIPTORS + admin).min(limits::CONNECTIONS_MAX);
    if public < limits::CONNECTIONS_MIN {
        bail!(
            "this process may open {open_files} files, which leaves no room for connections; allow {} with ulimit -n, or \
             LimitNOFILE= in its systemd unit",
            limits::CONNECTIONS_MAX + limits::ADMIN_CONNECTIONS_MAX + limits::OWN_DESCRIPTORS
        );
    }
    if public < limits::CONNECTIONS_FEW {
        tracing::warn!(
            open_files,
            public,
            "this process may open {open_files} files, so buyers have at most {public} connections at once and others wait; allow \
             more with ulimit -n, or LimitNOFILE= in its systemd unit"
        );
    }
    Ok(ConnectionShare { public, admin })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buyers_never_take_the_descriptors_of_the_engine_and_of_its_probes() {
        for open_files in 0..50_000 {
            let Ok(ConnectionShare { public, admin }) = share(open_files) else {
                assert!(open_files < 170, "{open_files}");
                continue;
            };
            assert!(public + admin + limits::OWN_DESCRIPTORS <= open_files, "{open_files}");
            assert!(
                (limits::CONNECTIONS_MIN..=limits::CONNECTIONS_MAX).contains(&public) && admin >= 16,
                "{open_files}"
            );
        }
        let all = ConnectionShare { public: limits::CONNECTIONS_MAX, admin: limits::ADMIN_CONNECTIONS_MAX };
        assert_eq!(share(usize::MAX).unwrap(), all);
    }
}
