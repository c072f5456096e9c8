//! Pure: the threshold rule, also the fallback of every other policy.

use std::time::Duration;

use super::{PlanInput, Signal, sizing::Size};

/// Utilization from which on CPU may be clipped and is taken for full, which is above any `up`.
const FULL: f64 = 0.9;

/// Mean utilization over `window` above `up` adds `step` replicas, below `down` removes as many.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    pub up: f64,
    pub down: f64,
    pub window: Duration,
    pub step: u32,
}

impl Default for Threshold {
    fn default() -> Threshold {
        Threshold { up: 0.8, down: 0.2, window: Duration::from_secs(60), step: 1 }
    }
}

/// The rule's answer. Its dead band lies between `down` and `up`, so tolerance does not apply to
/// it.
pub fn size(rule: &Threshold, input: &PlanInput) -> Size {
    let current = input.current_replicas;
    let answer = |replicas, reason| Size { rule: "threshold", replicas, ratio: None, reason };
    let Signal::Fresh { demand, .. } = input.signal else {
        return Size::keep("threshold", input, "no fresh demand");
    };
    if current == 0 && demand > 0.0 {
        return answer(rule.step, "demand without replicas".into());
    }
    let Some(utilization) = input.utilization_window else {
        return Size::keep("threshold", input, "its window is not filled yet");
    };
    let percent = utilization * 100.0;
    if utilization > rule.up {
        let reason = format!("utilization {percent:.0} % is above {:.0} %", rule.up * 100.0);
        answer(current.saturating_add(rule.step), reason)
    } else if utilization < rule.down {
        let reason = format!("utilization {percent:.0} % is below {:.0} %", rule.down * 100.0);
        // A step that would have to be taken back at once is a smaller one, or none.
        let fewest = (utilization * f64::from(current) / rule.up.min(FULL)).ceil() as u32;
        answer(current.saturating_sub(rule.step).max(fewest.min(current)), reason)
    } else {
        Size::keep("threshold", input, format!("utilization {percent:.0} % is within bounds"))
    }
}
