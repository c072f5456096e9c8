//! Pure: what replayed peers remember between decisions, and what they add to a reactive rule.

use super::{Basis, Decision, PlanInput, Policy, Signal, aws_predictive, phpa, sizing::Size};

/// The memory of one service; empty under every other policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    asked: phpa::History,
    load: aws_predictive::Load,
}

impl Memory {
    /// Takes in a decision that was just made under `policy`.
    pub fn record(&mut self, policy: &Policy, decision: &Decision) {
        match policy {
            // The rule's own answer is the last proposal; without data it made none.
            Policy::Phpa(peer) if decision.basis != Basis::Hold => {
                if let Some(rule) = decision.proposals.last() {
                    self.asked.record(peer, decision.time, rule.replicas);
                }
            }
            Policy::AwsPredictive(_) => {
                let demand = match decision.signal {
                    Signal::Fresh { demand, .. } => Some(demand),
                    Signal::Stale { .. } | Signal::Doubted { .. } | Signal::Missing => None,
                };
                self.load.record(decision.time, demand);
            }
            _ => {}
        }
    }
}

/// What a peer makes of its `rule`'s answer; `None` where it leaves it, and under every other
/// policy.
pub fn size(policy: &Policy, rule: &Size, input: &PlanInput) -> Option<Size> {
    match policy {
        Policy::Phpa(peer) => phpa::size(peer, rule, input, &input.peers.asked),
        Policy::AwsPredictive(peer) => aws_predictive::size(peer, rule, input, &input.peers.load),
        _ => None,
    }
}

/// The rule's answer with the tolerance applied, so that no later stage takes it for the answer of
/// the peer.
pub fn settled(rule: Size, input: &PlanInput) -> Size {
    if input.behavior.tolerates(rule.ratio) {
        return Size { replicas: input.current_replicas, ratio: None, ..rule };
    }
    Size { ratio: None, ..rule }
}
