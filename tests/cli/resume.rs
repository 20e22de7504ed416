//! `run --resume`: which earlier run is taken, and when none may be.

use super::station::{Station, read_json};

/// Two devices, of which the second one reverts; `version` is that of the simulated image.
fn plan(version: &str) -> String {
    format!(
        "version: 1\nname: pretend\nimages: {{ app: {{ file: app.bin }} }}\ntargets:\n  - name: line\n    \
         match: {{ sim: {{ count: 2, boot_ms: 50, version: \"{version}\", fault: {{ only: [2], crash_on_test_boot: true }} }} }}\n    \
         link: {{ quiet: 600ms, return_within: 20s }}\n"
    )
}

#[test]
fn without_an_earlier_run_of_this_plan_there_is_nothing_to_resume() {
    let station = Station::new();
    station.plan(&plan("1.0.0"));
    let (said, report) = station.run(&["--resume"]);
    assert_eq!((said.exit, report), (2, None), "{}", said.err);
    assert!(said.err.contains("plan.nothing_to_resume") && said.err.contains("help"), "{}", said.err);
    station.write("journal.jsonl", b"");
    let said = station.say(&["run", "plan.yaml", "--resume=journal.jsonl"]);
    assert!(said.exit == 2 && said.err.contains("plan.input_unreadable"), "{}", said.err);
}

#[test]
fn the_newest_run_of_the_same_plan_is_gone_on_with_and_its_journal_is_kept() {
    let station = Station::new();
    station.plan(&plan("1.0.0"));
    let (said, first) = station.run(&[]);
    assert_eq!(said.exit, 100, "{}", said.err);
    let first = first.expect("a report");

    // Found in the state folder; the same devices are here again, so none is carried over.
    let (said, second) = station.run(&["--resume", "--journal", "journal.jsonl"]);
    let id = first["run"]["id"].as_str().expect("an id");
    assert_eq!(said.exit, 100, "{}", said.err);
    assert!(
        said.err.contains(&format!("going on with run {id}, of which 1 of 2 devices did not pass")),
        "{}",
        said.err
    );
    assert_eq!(second.expect("a report")["summary"]["carried"], 0);
    assert!(!station.path("journal.jsonl.1").exists());

    // The journal that would be replaced is the run that is meant.
    let before = std::fs::read(station.path("journal.jsonl")).expect("a journal");
    let (said, third) = station.run(&["--resume", "--journal", "journal.jsonl"]);
    assert_eq!(said.exit, 100, "{}", said.err);
    assert!(!said.err.contains(id), "{}", said.err);
    assert_eq!(std::fs::read(station.path("journal.jsonl.1")).expect("a copy"), before);
    let again = station.say(&["report", "journal.jsonl", "--json", "again.json"]);
    assert_eq!(again.exit, 100, "{}", again.err);
    assert_eq!(read_json(&station.path("again.json")), third, "reports are made of the journal alone");
}

#[test]
fn a_run_of_another_plan_or_other_images_or_without_work_left_is_refused() {
    let station = Station::new();
    station.plan(&plan("1.0.0"));
    let (said, _) = station.run(&["--journal", "journal.jsonl"]);
    assert_eq!(said.exit, 100, "{}", said.err);
    let refused = |code: &str, journal: &str| {
        let said =
            station.say(&["run", "plan.yaml", "--json", "refused.json", &format!("--resume={journal}")]);
        assert_eq!((said.exit, station.path("refused.json").exists()), (2, false), "{}", said.err);
        assert!(said.err.contains(code), "{code}: {}", said.err);
    };

    let app = std::fs::read(station.path("app.bin")).expect("an image");
    let other = flashfleet::image::ImageBuilder::new().version("2.0.0").payload(&[7; 5000]).build();
    station.write("app.bin", &other);
    refused("plan.resumed_other_images", "journal.jsonl");
    station.write("app.bin", &app);

    station.plan(&plan("1.1.0"));
    refused("plan.resumed_another_plan", "journal.jsonl");

    station.plan(&plan("1.0.0").replace("crash_on_test_boot: true", "crash_on_test_boot: false"));
    let (said, report) = station.run(&["--journal", "whole.jsonl"]);
    assert_eq!(said.exit, 0, "{}", said.err);
    station.write("report.json", report.expect("a report").to_string().as_bytes());
    refused("plan.nothing_to_resume", "whole.jsonl");
    refused("plan.input_unreadable", "report.json");
}
