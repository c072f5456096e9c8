//! Pure: the commands that bring a fleet to its desired size: who is stopped, who is taken back,
//! how many are started.

use super::{Command, Fleet, Member, Phase, Replica, ReplicaId};
use crate::series::Time;

impl Fleet {
    /// One replica more than `desired` while ours of an older configuration are replaced, one after
    /// the other: the next leaves when its successor serves.
    pub fn surge(&self, desired: u32) -> u32 {
        let succeeding = |r: &Replica| r.phase == Phase::Starting && !r.outdated;
        let succeeding = !self.ordered.is_empty() || self.replicas().any(succeeding);
        let outdated = self.replicas().any(|r| r.counts() && r.outdated && r.managed);
        u32::from(outdated && (succeeding || self.current_replicas() <= desired))
    }

    /// Commands that bring the fleet towards `desired` replicas. Starts are counted as ordered at
    /// `now`.
    pub fn reconcile(&mut self, now: Time, desired: u32) -> Vec<Command> {
        let mut leaving = self.leftovers.clear();
        self.stop_failing(now, &mut leaving);
        let current = self.current_replicas();
        // First, so that nobody is stopped in the moment in which the load returns.
        let missing = desired.saturating_sub(current + self.leftovers.held());
        let count = missing - self.take_back(now, missing);
        self.stop_drained(now, &mut leaving);
        if current > desired {
            self.release(now, current - desired, &mut leaving);
        }
        let mut commands: Vec<Command> =
            leaving.into_iter().map(|replica| Command::Stop { replica }).collect();
        if count > 0 {
            self.ordered.extend(std::iter::repeat_n(now, count as usize));
            commands.push(Command::Start { count });
        }
        commands
    }

    fn stop_drained(&mut self, now: Time, leaving: &mut Vec<ReplicaId>) {
        let timeout = self.settings.drain_timeout;
        for replica in self.members.values_mut().map(|member| &mut member.replica) {
            let over = replica.in_flight == 0 || replica.age(now) >= timeout;
            if replica.phase == Phase::Draining && replica.since < now && over {
                replica.enter(Phase::Gone, now);
                leaving.push(replica.id.clone());
            }
        }
    }

    fn stop_failing(&mut self, now: Time, leaving: &mut Vec<ReplicaId>) {
        for member in self.members.values_mut().filter(|m| m.failing && m.replica.counts()) {
            // A restart loop may serve for a moment.
            if member.replica.serves() {
                member.replica.enter(Phase::Draining, now);
                continue;
            }
            member.replica.enter(Phase::Gone, now);
            leaving.push(member.replica.id.clone());
        }
    }

    /// Takes all draining replicas back into service: nobody is going to stop them.
    pub fn keep_draining(&mut self, now: Time) {
        self.take_back(now, u32::MAX);
    }

    /// Takes up to `count` draining replicas back into service, those longest in service first.
    fn take_back(&mut self, now: Time, count: u32) -> u32 {
        let mut draining: Vec<&mut Member> =
            self.members.values_mut().filter(|member| member.recoverable()).collect();
        draining.sort_by_key(|member| (member.replica.created, member.replica.id.clone()));
        let taken = draining.into_iter().take(count as usize);
        taken.map(|member| member.replica.enter(Phase::Ready, now)).count() as u32
    }

    /// Lets `count` replicas go: the outdated first, then the unhealthy, then those still starting,
    /// then those of ours before others', the idle before the busy, the youngest first. Nobody
    /// waits for a replica that does not serve and has nothing in flight.
    fn release(&mut self, now: Time, count: u32, leaving: &mut Vec<ReplicaId>) {
        let mut candidates: Vec<&mut Member> =
            self.members.values_mut().filter(|member| member.replica.counts()).collect();
        candidates.sort_by_cached_key(|Member { replica: r, measuring, .. }| {
            let (starting, age_rank) = (r.phase == Phase::Starting, std::cmp::Reverse(r.created));
            let ill = starting && !measuring;
            (!r.outdated, !ill, !starting, !r.managed, r.in_flight, age_rank, r.id.clone())
        });
        for member in candidates.into_iter().take(count as usize) {
            let replica = &mut member.replica;
            if replica.phase == Phase::Starting && replica.in_flight == 0 {
                replica.enter(Phase::Gone, now);
                leaving.push(replica.id.clone());
            } else {
                replica.enter(Phase::Draining, now);
            }
        }
    }
}
