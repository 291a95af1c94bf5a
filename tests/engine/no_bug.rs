//! The engine's tests hold the count of states that cannot be at 0.

use std::process::Command;

/// Fails the test that drops it if this process has seen a bug. The count is the process's: the tests that end after the
/// one with the bug fail too, and its log line says where the bug is.
pub(crate) struct NoBug;

impl Drop for NoBug {
    fn drop(&mut self) {
        let seen = rushgate::bug::seen();
        assert!(seen == 0 || std::thread::panicking(), "{seen} bugs were seen");
    }
}

/// In a process of its own, whose count may be above 0.
#[test]
fn a_bug_fails_the_test_that_saw_it() {
    const IS_CHILD: &str = "RUSHGATE_TEST_BUG";
    if std::env::var_os(IS_CHILD).is_some() {
        let _no_bug = NoBug;
        rushgate::bug!("made by a test");
        return;
    }
    let mut tests = Command::new(std::env::current_exe().unwrap());
    let out = tests.args(["--exact", "no_bug::a_bug_fails_the_test_that_saw_it"]).env(IS_CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(!out.status.success() && text.contains("1 bugs were seen"), "{text}");
    drop(NoBug);
}
