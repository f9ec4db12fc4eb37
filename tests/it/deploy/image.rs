//! The container's own command line, user and settings, in the image itself.

use super::{read, settings::of_compose};
use crate::{
    github::workflow_run,
    harness::{SECRET, Starting, now, sent, signal},
    intake::{Intake, TEST_KEY},
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    process::Command,
};

/// The user of the image, by number: it has no other name.
const USER: u32 = 65532;

/// The words of an instruction such as `CMD ["serve"]`, the last one of its name.
fn words(dockerfile: &str, instruction: &str) -> Vec<String> {
    let line = dockerfile.lines().rev().find(|line| line.starts_with(instruction));
    let line = line.unwrap_or_else(|| panic!("no {instruction}: {dockerfile}"));
    serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap()
}

/// The service in the container. It would go on if buildah were killed, as it is where a test fails.
struct Inner(u32);

impl Inner {
    fn status(&self) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/status", self.0)).ok()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.status().is_some() {
            signal(self.0, "KILL");
        }
    }
}

#[test]
#[ignore = "needs a container of the image, which deploy/check makes with buildah, as root"]
fn the_containers_command_line_takes_a_signed_delivery_and_datadog_counts_it_once() {
    let container =
        std::env::var("RUNHOUND_TEST_CONTAINER").expect("RUNHOUND_TEST_CONTAINER names a container of buildah");
    let intake = Intake::start();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let [data, secrets] = ["data", "secrets"].map(|name| dir.path().join(name));
    for folder in [&data, &secrets] {
        fs::create_dir(folder).unwrap();
    }
    for (name, text) in [("github-webhook-secret", SECRET), ("dd-api-key", TEST_KEY)] {
        fs::write(secrets.join(name), text).unwrap();
        fs::set_permissions(secrets.join(name), fs::Permissions::from_mode(0o400)).unwrap();
        chown(secrets.join(name), Some(USER), Some(USER)).unwrap();
    }
    chown(&data, Some(USER), Some(USER)).unwrap();

    let dockerfile = read("container/Dockerfile");
    let run = |words: Vec<String>, settings: &[String]| {
        let mut command = Command::new("buildah");
        command.args(["run", "--isolation=chroot", "--cap-drop=all"]);
        command.arg(format!("--volume={}:/var/lib/runhound", data.display()));
        command.arg(format!("--volume={}:/run/secrets:ro", secrets.display()));
        // As in production; on ports of their own, since the network is this machine's.
        let production = ["container/compose.yaml", "production/compose.yaml"].into_iter().flat_map(of_compose);
        let settings = production.chain(settings.iter().cloned()).chain(["RUNHOUND_LISTEN=127.0.0.1:0".to_owned()]);
        command.args(settings.map(|setting| format!("--env={setting}")));
        command.args([container.as_str(), "--"]).args(words);
        command
    };
    let whole = [words(&dockerfile, "ENTRYPOINT"), words(&dockerfile, "CMD")].concat();
    let settings = [format!("DD_URL={}", intake.url()), "RUNHOUND_ADMIN_LISTEN=127.0.0.1:0".to_owned()];
    let service = Starting::of(&mut run(whole, &settings)).ready();
    let lock = fs::read_to_string(data.join("lock")).unwrap();
    let inner = Inner(lock.split(' ').find_map(|word| word.parse().ok()).unwrap());
    let status = inner.status().unwrap();
    let user = format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n");
    assert!(status.contains(&user) && status.contains("CapEff:\t0000000000000000\n"), "{status}");
    let delivery = workflow_run(1).started_at(now() - 61).updated_at(now());
    assert_eq!(service.deliver(&delivery).status, 202);
    service.wait_for_pushes(1);
    assert_eq!(service.deliver(&delivery).says(), "duplicate");

    // As the image has it: an address for all of the machine's.
    let setting = format!("RUNHOUND_ADMIN_LISTEN=0.0.0.0:{}", service.admin().port());
    let mut healthcheck = run(words(&dockerfile, "HEALTHCHECK"), &[setting]);
    assert!(healthcheck.status().unwrap().success(), "healthy");

    // buildah kills what it runs when it is told to stop, so the service itself is told.
    signal(inner.0, "TERM");
    let (ended, log) = service.wait();
    assert!(ended.success(), "{log:#?}");
    assert_eq!(intake.count("github.actions.workflow_run.total"), 1.0);
    assert_eq!(sent(&data.join("sent-workflows.json")), ["1"]);
}
