//! `flashfleet list` with Bluetooth.

use super::station::Station;

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
