//! Pure: one choice in words and numbers: who was compared, and why the others were passed over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::choice::{By, Chosen};
use super::{Algorithm, Key, Snapshot, Target};
use crate::fleet::ReplicaId;

/// A choice with its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explanation {
    #[schema(value_type = String)]
    pub chosen: ReplicaId,
    pub algorithm: Algorithm,
    /// One sentence.
    pub reason: String,
    /// Those that were compared, by what the algorithm compares: the lowest cost is chosen.
    pub compared: Vec<Candidate>,
    /// Those that could not be chosen.
    pub passed_over: Vec<PassedOver>,
    /// So few replicas are healthy that health is ignored.
    pub panic: bool,
}

/// One of the replicas that were compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Candidate {
    #[schema(value_type = String)]
    pub replica: ReplicaId,
    /// Requests in flight ÷ weight, under peak EWMA seconds × (requests in flight + 1) ÷ weight.
    pub cost: f64,
    pub in_flight: u32,
    pub weight: f64,
}

/// A replica that could not be chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PassedOver {
    #[schema(value_type = String)]
    pub replica: ReplicaId,
    pub because: Because,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// It still starts, drains or leaves.
    NotReady,
    /// It is ejected or fails its checks.
    Unhealthy,
    /// It is at its limit of requests in flight.
    Full,
}

impl Snapshot {
    /// As [`Snapshot::pick`], which it is: it takes a turn.
    pub fn explain(&self, key: Key, random: u64, now: Duration) -> Option<(&Target, Explanation)> {
        let chosen = self.choose(key, random, now)?;
        let target = self.ready().get(chosen.index)?;
        let candidate = |(index, cost): (usize, f64)| {
            let target = self.ready().get(index)?;
            Some(Candidate {
                replica: target.id.clone(),
                cost,
                in_flight: target.counters.in_flight.load(Ordering::Relaxed),
                weight: target.weight,
            })
        };
        let explanation = Explanation {
            chosen: target.id.clone(),
            algorithm: self.rules().algorithm,
            reason: self.reason(&chosen),
            compared: chosen.compared.into_iter().flatten().filter_map(candidate).collect(),
            passed_over: self.passed_over(),
            panic: self.panics(),
        };
        Some((target, explanation))
    }

    /// Those that cannot be chosen now, and why.
    pub fn passed_over(&self) -> Vec<PassedOver> {
        let because = |(index, target): (usize, &Target)| {
            let because = if !target.ready {
                Because::NotReady
            } else if index >= self.ready().len() {
                Because::Unhealthy
            } else if !self.has_room(index) {
                Because::Full
            } else {
                return None;
            };
            Some(PassedOver { replica: target.id.clone(), because })
        };
        self.targets().iter().enumerate().filter_map(because).collect()
    }

    fn reason(&self, chosen: &Chosen) -> String {
        let among = self.ready().len();
        match chosen.by {
            By::Session => "the client's session is with it".to_owned(),
            By::Turn => format!("it was its turn among {among}"),
            By::Draw => format!("drawn by weight among {among}"),
            By::Cost => format!("the lower cost of two drawn by weight among {among}"),
            By::Only => "no other could be chosen".to_owned(),
            By::Hash => format!("the key's hash is its among {among}"),
            By::First => "the first one with room".to_owned(),
            By::Room => "the one that the algorithm would take is full; this one has room".into(),
        }
    }
}
