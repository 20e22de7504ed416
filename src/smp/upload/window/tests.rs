//! Tests of the window's size, fed with times alone.

use super::*;

/// A link with this many milliseconds between answers at the window's size.
struct Link<F: Fn(usize) -> u64> {
    now: Time,
    interval: F,
}

impl<F: Fn(usize) -> u64> Link<F> {
    fn new(interval: F) -> Self {
        Self { now: Duration::ZERO, interval }
    }

    /// So many answers in order; gives the largest size among them.
    fn answers(&mut self, window: &mut Window, times: u32) -> usize {
        let mut most = window.size();
        for _ in 0..times {
            self.now += Duration::from_millis((self.interval)(window.size()));
            window.answered(self.now);
            most = most.max(window.size());
        }
        most
    }
}

fn new_window(limit: usize) -> Window {
    let mut window = Window::new(limit, true, None);
    window.begin(Duration::ZERO);
    assert_eq!(window.size(), 1);
    window
}

#[test]
fn grows_at_once_where_the_link_waits() {
    let mut window = new_window(4);
    let mut link = Link::new(|size| 120 / size as u64);
    link.answers(&mut window, 1);
    assert_eq!(window.size(), 2, "one answer is enough");
    link.answers(&mut window, 12);
    assert_eq!(window.size(), 4);
    assert_eq!(link.answers(&mut window, 1000), 4, "never beyond the limit");
}

#[test]
fn two_answers_close_together_show_how_many_fit() {
    for (gap, size) in [(5, 4), (26, 3), (39, 2)] {
        let mut window = new_window(7);
        let times = [100, 200, 200 + gap].map(Duration::from_millis);
        for now in times {
            window.answered(now);
        }
        assert_eq!(window.size(), size, "answers {gap} ms apart");
    }
    let mut window = new_window(3);
    [100, 200, 201].into_iter().for_each(|now| window.answered(Duration::from_millis(now)));
    assert_eq!(window.size(), 3, "never beyond the limit");
    // Not again once there was trouble.
    let mut window = new_window(7);
    window.answered(Duration::from_millis(100));
    window.lost();
    (0..BLAMED).for_each(|n| window.answered(Duration::from_millis(u64::from(200 + 100 * n))));
    let now = Duration::from_millis(u64::from(200 + 100 * BLAMED));
    [0, 1].into_iter().for_each(|more| window.answered(now + Duration::from_millis(more)));
    assert_eq!(window.size(), 2);
}

#[test]
fn stays_where_the_wire_is_full() {
    let mut window = new_window(8);
    let mut link = Link::new(|size| if size == 1 { 100 } else { 93 });
    assert_eq!(link.answers(&mut window, UNLIKELY - 10), 2, "3 cannot be faster");
    // Tried all the same, seldom, and left again.
    assert_eq!(link.answers(&mut window, 2 * UNLIKELY), 3);
    link.answers(&mut window, 2 * LONG);
    assert_eq!(window.size(), 2);
}

#[test]
fn what_does_not_pay_is_left_and_seldom_tried_again() {
    let mut window = new_window(4);
    let mut link = Link::new(|_| 100);
    assert_eq!(link.answers(&mut window, LONG + 2), 2);
    assert_eq!(window.size(), 1);
    assert_eq!(link.answers(&mut window, UNLIKELY - 2), 1);
    assert_eq!(link.answers(&mut window, 4), 2);
}

#[test]
fn lucky_moment_does_not_stand_against_many_answers() {
    let mut window = new_window(2);
    // The only answer to one chunk alone came in 90 ms. They usually take 100, and 93 with two in flight.
    Link::new(|_| 90).answers(&mut window, 1);
    let mut link = Link { now: Duration::from_millis(90), interval: |size| if size == 1 { 100 } else { 93 } };
    link.answers(&mut window, LONG + 2);
    assert_eq!(window.size(), 1);
    link.answers(&mut window, LONG + 2);
    assert_eq!(window.size(), 2);
    link.answers(&mut window, 500);
    assert_eq!(window.size(), 2);
}

#[test]
fn window_that_loses_at_once_is_not_tried_again_soon() {
    let mut window = new_window(4);
    let mut link = Link::new(|size| 100 / size as u64);
    let mut tries = 0;
    for _ in 0..1000 {
        link.answers(&mut window, 1);
        if window.size() > 1 {
            tries += 1;
            link.answers(&mut window, 1);
            window.lost();
            assert_eq!(window.size(), 1);
        }
    }
    assert_eq!(tries, 2, "at the first and once more within 1000");
}

#[test]
fn link_that_loses_as_much_with_one_in_flight_keeps_its_window() {
    let mut window = new_window(3);
    let mut link = Link::new(|size| 120 / size as u64);
    let mut sizes = 0;
    for _ in 0..100 {
        link.answers(&mut window, 10);
        window.lost();
        sizes += window.size();
    }
    assert!(sizes > 250, "{sizes}: nearly always at 3");
}

#[test]
fn memory_of_the_server_is_a_limit_for_good_and_its_buffers_are_not() {
    let mut window = new_window(4);
    let mut link = Link::new(|size| 120 / size as u64);
    link.answers(&mut window, 50);
    window.no_memory();
    assert_eq!(link.answers(&mut window, 2000), 3);
    let mut next = Window::new(4, true, Some(window.memory()));
    assert_eq!((next.size(), link.answers(&mut next, 2000)), (3, 3));
    let mut few = Window::new(1, true, Some(window.memory()));
    assert_eq!(link.answers(&mut few, 100), 1);
    // One buffer was not for want of memory: another firmware may have more.
    let mut next = Window::new(2, true, Some(Window::new(1, true, None).memory()));
    assert_eq!(link.answers(&mut next, 100), 2);
}

#[test]
fn fixed_window_is_there_at_once_and_falls_back_too() {
    let mut window = Window::new(3, false, None);
    assert_eq!(window.size(), 3);
    window.lost();
    assert_eq!(window.size(), 2);
    let mut link = Link::new(|_| 100);
    assert_eq!(link.answers(&mut window, BLAMED), 3, "whether it pays is not asked");
}
