//! A person, drawn.
//!
//! Invariant: cities and states are written with their usual capitals (`OR`, `Phoenix`): q3 compares
//! them as text. City and state are drawn apart, as in Nexmark: Phoenix may lie in Oregon.

use super::config::{FIRST_ID, NexmarkConfig, event_time_ms, newest_person};
use super::rng::EventRng;
use super::text;

/// Bytes of a person in the mean: identifier, texts and filler.
const AVERAGE_BYTES: usize = 200;

const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris",
];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// A person whose texts lie in the scratch.
#[derive(Debug)]
pub(super) struct PersonDraft<'s> {
    pub(super) id: u64,
    pub(super) name: &'s str,
    pub(super) email_address: &'s str,
    pub(super) credit_card: &'s str,
    pub(super) city: &'s str,
    pub(super) state: &'s str,
    pub(super) date_time: i64,
    pub(super) extra: &'s str,
}

/// Buffers for a person's texts, reused.
#[derive(Debug, Default)]
pub(super) struct PersonScratch {
    name: Vec<u8>,
    email_address: Vec<u8>,
    credit_card: Vec<u8>,
    extra: Vec<u8>,
}

/// Draws person `n`.
pub(super) fn draw<'s>(
    config: &NexmarkConfig,
    n: u64,
    scratch: &'s mut PersonScratch,
) -> PersonDraft<'s> {
    let rng = &mut EventRng::new(config.seed, n);
    write_name(&mut scratch.name, rng);
    write_email_address(&mut scratch.email_address, rng);
    write_credit_card(&mut scratch.credit_card, rng);
    let city = rng.choose(&CITIES);
    let state = rng.choose(&STATES);
    let size = 8
        + scratch.name.len()
        + scratch.email_address.len()
        + scratch.credit_card.len()
        + city.len()
        + state.len();
    scratch.extra.clear();
    text::filler(&mut scratch.extra, rng, size, AVERAGE_BYTES);
    PersonDraft {
        id: FIRST_ID + newest_person(n),
        name: text::as_text(&scratch.name),
        email_address: text::as_text(&scratch.email_address),
        credit_card: text::as_text(&scratch.credit_card),
        city,
        state,
        date_time: event_time_ms(config, n),
        extra: text::as_text(&scratch.extra),
    }
}

fn write_name(out: &mut Vec<u8>, rng: &mut EventRng) {
    out.clear();
    out.extend_from_slice(rng.choose(&FIRST_NAMES).as_bytes());
    out.push(b' ');
    out.extend_from_slice(rng.choose(&LAST_NAMES).as_bytes());
}

fn write_email_address(out: &mut Vec<u8>, rng: &mut EventRng) {
    out.clear();
    let user = 3 + rng.index(4);
    text::letters(out, rng, user);
    out.push(b'@');
    let host = 3 + rng.index(2);
    text::letters(out, rng, host);
    out.extend_from_slice(b".com");
}

/// Four groups of four digits.
fn write_credit_card(out: &mut Vec<u8>, rng: &mut EventRng) {
    out.clear();
    let number = rng.below(10_u64.pow(16));
    for group in (0..4).rev() {
        text::digits(out, number / 10_000_u64.pow(group), 4);
        if group > 0 {
            out.push(b' ');
        }
    }
}
