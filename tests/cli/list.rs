//! `flashfleet list` with Bluetooth.

use serde_json::Value;

use super::station::{Said, Station};

#[test]
fn what_follows_ble_is_a_time_and_a_plan_there_is_told_where_it_goes() {
    let station = Station::new();
    for wrong in ["plan.yaml", "0", "301", "-1", "1.5"] {
        let said = station.say(&["list", &format!("--ble={wrong}")]);
        assert_eq!((said.exit, said.out.as_str()), (2, ""), "{wrong}: {}", said.err);
        assert!(said.err.contains("1 to 300 seconds as in `--ble=10`"), "{wrong}: {}", said.err);
        assert!(said.err.contains("`list PLAN --ble`"), "{wrong}: {}", said.err);
    }
    let said = station.say(&["list", "--ble", "plan.yaml"]);
    assert!(said.exit == 2 && said.err.contains("`list PLAN --ble`"), "{}", said.err);
}

#[test]
fn without_bluetooth_the_ports_are_told_all_the_same() {
    let station = Station::new();
    station.plan(
        "version: 1\nname: line\nimages: { app: { file: app.bin } }\n\
         targets: [{ name: beacons, match: { ble: Beacon } }, { name: gates, match: { udp: [\"127.0.0.1\"] } }]\n",
    );
    let say = |arguments: &[&str]| -> Said {
        // No service there: the tests may run where there is Bluetooth.
        let mut command = station.command(&[&["list", "plan.yaml"], arguments].concat());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", station.path("none").display()));
        command.output().expect("the program runs").into()
    };
    let (plain, said) = (say(&[]), say(&["--ble=1"]));
    assert_eq!((plain.exit, said.exit), (0, 102), "{}{}", plain.err, said.err);
    assert!(said.err.contains("error[station."), "{}", said.err);
    let ports = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with("target ")).map(str::to_owned).collect()
    };
    assert!(!ports(&said.out).is_empty());
    assert_eq!(ports(&said.out), ports(&plain.out));
    assert!(said.out.contains("target beacons: ble devices could not be looked for\n"), "{}", said.out);
    assert!(said.out.contains("target gates: udp devices are not looked for here\n"), "{}", said.out);
    let (plain, said) = (say(&["--json"]), say(&["--json", "--ble=1"]));
    assert_eq!(said.exit, 102, "{}", said.err);
    let [plain, json] = [plain, said].map(|said| serde_json::from_str::<Value>(&said.out).expect("JSON"));
    assert_eq!(json["ports"], plain["ports"]);
    assert_eq!((json.get("ble"), plain.get("ble")), (Some(&Value::Null), None));
}
