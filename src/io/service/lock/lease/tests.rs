//! Pure: several processes contend for one entry, in an engine and with delays that are drawn.

use proptest::prelude::*;

use super::*;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The engine: at most one entry, whose ids never come back.
#[derive(Default)]
struct Engine {
    entry: Option<(u64, i64, usize)>,
    ids: u64,
}

impl Engine {
    /// `heir`: the asking process may prove that whoever made the entry before it has ended.
    fn carry_out(&mut self, asking: usize, heir: bool, request: &Request) -> Answer {
        let is = |entry: &Option<(u64, i64, usize)>, id: &str| {
            entry.is_some_and(|(found, ..)| found.to_string() == id)
        };
        match request {
            Request::Look => match self.entry {
                Some((id, beat, holder)) => {
                    let same = heir && holder % MACHINES == asking % MACHINES;
                    let relation = if same { Relation::Heir } else { Relation::Stranger };
                    let (id, holder) = (id.to_string(), holder.to_string());
                    Answer::Found(Entry { id, beat, holder, relation })
                }
                None => Answer::Free,
            },
            Request::Remove { id } => {
                self.entry = self.entry.filter(|entry| !is(&Some(*entry), id));
                Answer::Free
            }
            Request::Create if self.entry.is_some() => Answer::Taken,
            Request::Create => {
                self.ids += 1;
                self.entry = Some((self.ids, 0, asking));
                Answer::Created { id: self.ids.to_string() }
            }
            Request::Renew { id, beat } if is(&self.entry, id) => {
                self.entry = self.entry.map(|(id, _, holder)| (id, *beat, holder));
                Answer::Renewed
            }
            Request::Renew { .. } => Answer::Free,
        }
    }
}

/// Processes 0 and 2 are on one machine, 1 and 3 on another. The lock file of each machine is the
/// first one's, and only it contends.
const MACHINES: usize = 2;

struct Process {
    lease: Lease,
    /// What was asked and when, and what came of it.
    asked: Option<(Request, Instant, Option<Answer>)>,
    /// When the next thing happens to it: it asks, the engine carries out, the answer arrives.
    due: Instant,
}

impl Process {
    fn new(due: Instant) -> Process {
        Process { lease: Lease::new(), asked: None, due }
    }

    fn turn(&mut self, engine: &mut Engine, number: usize, delay: Duration) {
        let now = self.due;
        self.due += delay;
        match self.asked.take() {
            None => self.asked = Some((self.lease.request(), now, None)),
            Some((request, sent, None)) => {
                let answer = engine.carry_out(number, true, &request);
                self.asked = Some((request, sent, Some(answer)));
            }
            // A slow answer is none, though it was carried out.
            Some((_, sent, Some(_))) if now > sent + ms(10_000) => {
                self.lease.answer(sent, now, Answer::Failed("slow".to_owned()));
            }
            Some((_, sent, Some(answer))) => {
                if !self.lease.answer(sent, now, answer) {
                    self.due = now + BEAT + delay;
                }
            }
        }
    }
}

/// What else happens: a process is killed and started again, or a user prunes containers.
#[derive(Debug, Clone)]
enum Mishap {
    Kill(usize),
    Prune,
    None,
}

fn mishaps() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        60 => Just(Mishap::None),
        1 => (0..4_usize).prop_map(Mishap::Kill),
        1 => Just(Mishap::Prune),
    ]
}

/// Mostly quick, now and then as slow as a machine that stands still.
fn delays() -> impl Strategy<Value = u64> {
    prop_oneof![30 => 0..50_u64, 3 => 50..2_000_u64, 1 => 2_000..9_000_u64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn never_do_two_act_at_once(steps in prop::collection::vec((delays(), mishaps()), 1..600)) {
        let start = Instant::now();
        let mut engine = Engine::default();
        let mut processes = Vec::from_iter((0..4).map(|_| Process::new(start)));
        for (delay, mishap) in steps {
            let number = if processes[0].due <= processes[1].due { 0 } else { 1 };
            let now = processes[number].due;
            match mishap {
                Mishap::None => processes[number].turn(&mut engine, number, ms(delay)),
                Mishap::Prune => engine.entry = None,
                Mishap::Kill(victim) => {
                    // What it has sent may still be carried out.
                    if let Some((request, _, None)) = &processes[victim].asked {
                        engine.carry_out(victim, true, request);
                    }
                    // The other one of the machine gets the lock file, and a new one waits for it.
                    let (first, waiting) = (victim % MACHINES, victim % MACHINES + MACHINES);
                    if victim == first {
                        processes.swap(first, waiting);
                        processes[first].due = now;
                    }
                    processes[waiting] = Process::new(now);
                }
            }
            // Until the next thing happens, whoever acts may begin or end to.
            let next = processes[0].due.min(processes[1].due);
            let mut time = now;
            while time <= next {
                let acting = processes.iter().filter(|it| it.lease.refusal(time).is_none());
                prop_assert!(acting.count() <= 1);
                time += ms(100);
            }
        }
    }
}

/// Asks and answers without a delay, second by second from `from` to `to`; gives the seconds in
/// which it acts.
fn acting(
    lease: &mut Lease,
    engine: &mut Engine,
    start: Instant,
    seconds: std::ops::Range<u64>,
    heir: bool,
) -> Vec<u64> {
    let mut acting = Vec::new();
    for second in seconds {
        let now = start + Duration::from_secs(second);
        loop {
            let answer = engine.carry_out(0, heir, &lease.request());
            if !lease.answer(now, now, answer) {
                break;
            }
        }
        acting.extend(lease.refusal(now).is_none().then_some(second));
    }
    acting
}

#[test]
fn the_first_acts_once_settled_and_a_stranger_or_an_heir_takes_over() {
    let start = Instant::now();
    let mut engine = Engine::default();
    let mut first = Lease::new();
    let reason = |lease: &Lease, second| {
        lease.refusal(start + Duration::from_secs(second)).expect("a reason")
    };
    assert!(reason(&first, 0).contains("not held"));
    // Created at 0, settled at 4.
    assert_eq!(acting(&mut first, &mut engine, start, 0..7, false), [4, 5, 6]);
    let entry = engine.entry;

    // Renewed last at 6. A stranger looks first at 7, sees nothing new until 11 and settles at 15.
    assert_eq!(first.refusal(start + ms(8_999)), None);
    assert!(reason(&first, 9).contains("not renewed"));
    let mut stranger = Lease::new();
    assert_eq!(acting(&mut stranger, &mut engine, start, 7..8, false), [0; 0]);
    assert!(reason(&stranger, 7).contains("another Foresail (0) acts: only observing"));
    assert_eq!(acting(&mut stranger, &mut engine, start, 8..18, false), [15, 16, 17]);
    assert_ne!(engine.entry, entry);
    // The first finds that it has lost, and watches.
    assert_eq!(acting(&mut first, &mut engine, start, 18..19, false), [0; 0]);
    assert!(reason(&first, 18).contains("acts"));

    // The stranger's entry was created at 11 and renewed at 17: an heir has nothing to wait for.
    let kept = engine.entry.map(|(id, ..)| id);
    let mut heir = Lease::new();
    assert_eq!(acting(&mut heir, &mut engine, start, 18..20, true), [18, 19]);
    assert_eq!(engine.entry.map(|(id, ..)| id), kept, "inherited, not made anew");
}

#[test]
fn an_heir_of_a_young_entry_waits_for_the_rest() {
    let start = Instant::now();
    let mut engine = Engine::default();
    let mut first = Lease::new();
    // Created at 0, renewed with 1 at 1: three of four seconds are left from 2 on.
    acting(&mut first, &mut engine, start, 0..2, false);
    let mut heir = Lease::new();
    assert_eq!(acting(&mut heir, &mut engine, start, 2..7, true), [5, 6]);
}

#[test]
fn what_fails_is_said_and_tried_again() {
    let now = Instant::now();
    let mut lease = Lease::new();
    assert!(!lease.answer(now, now, Answer::Failed("403: no".to_owned())));
    let reason = lease.refusal(now).expect("a reason");
    assert!(reason.ends_with("not held (403: no): only observing"), "{reason}");
    assert_eq!(lease.request(), Request::Look);
    assert_eq!(lease.held(), None);
}
