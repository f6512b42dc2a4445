//! Reads cron expressions, as people may write them, and asks when they are due.

#![no_main]

use bson::DateTime;
use libfuzzer_sys::fuzz_target;
use stream_processor::inside::{Schedule, zone};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Some(paris) = zone("Europe/Paris") else { return };
    let Ok(schedule) = Schedule::parse(&[text], paris) else { return };
    // Around both changes of the clocks.
    for begin in [1_774_738_800_000, 1_792_879_200_000] {
        let begin = DateTime::from_millis(begin);
        // It passes when it is read only if it is due again some time.
        let next = schedule.next_after(begin).expect("an expression that is read is due again");
        assert!(next > begin);
        let due = schedule.due(begin, next).expect("there is one up to the next one");
        assert_eq!((due.first, due.last, due.count), (next, next, 1));
    }
});
