//! The unit, as systemd itself judges it.

use std::fs;
use std::process::Command;

use xtask::guarded::TemporaryFolder;

use super::repository;
use crate::support::dpkg::ended;

/// The exposure of which the unit, `SECURITY.md` and this test speak, in tenths: the less, the better.
const EXPOSURE: &str = "12";

#[test]
fn systemd_knows_each_line_of_the_unit_and_calls_its_exposure_low() {
    let folder = TemporaryFolder::create("stream-processor-unit-").unwrap();
    let unit = folder.path().join("stream-processor.service");
    let text = fs::read_to_string(repository().join("deploy/systemd/stream-processor.service")).unwrap();
    // The program must exist.
    fs::write(&unit, text.replace("/usr/local/bin/stream-processor", "/bin/true")).unwrap();

    let verified = ended(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
    // An unknown key is only a line of the output. Lines about units of this machine are not ours.
    let ours: Vec<&str> = verified.stderr.lines().filter(|line| line.contains("stream-processor")).collect();
    assert!(verified.code == 0 && ours.is_empty(), "{}", verified.stderr);

    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--no-pager", "--offline=true", &format!("--threshold={EXPOSURE}")]).arg(&unit);
    let judged = ended(&mut security);
    assert_eq!(judged.code, 0, "{}{}", judged.stdout, judged.stderr);
    let said = format!("{}.{}", &EXPOSURE[..1], &EXPOSURE[1..]);
    assert!(text.contains(&format!("says {said} (OK)")), "the unit names its exposure");
    for setting in
        ["Type=notify", "WatchdogSec=", "ExecReload=", "StateDirectory=", "LoadCredential=", "DynamicUser=yes"]
    {
        assert!(text.contains(&format!("\n{setting}")), "{setting}");
    }
}
