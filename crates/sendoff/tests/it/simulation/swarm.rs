//! What a seed's world is like: each seed has faults of its own choice, so that some worlds have a few
//! kinds only, and often.

/// See the module. Chances are of a hundred, or of a thousand for each call of a store.
#[derive(Debug, Clone)]
pub(super) struct Swarm {
    /// Nodes of a fleet; none: one node alone with its store.
    pub(super) nodes: usize,
    pub(super) clients: usize,
    pub(super) max_in_flight: usize,
    pub(super) many: bool,
    /// Attempts that are not made in one call are made in one task.
    pub(super) side_by_side: bool,
    /// How long the faults go on, in seconds.
    pub(super) lasts: u64,
    /// How long a call takes at most, in milliseconds.
    pub(super) latency: u64,
    /// Of a thousand calls: fail with nothing done.
    pub(super) fails: u32,
    /// Are done, and the answer gets lost.
    pub(super) lost: u32,
    /// Are done long after they were given up.
    pub(super) late: u32,
    /// Take seconds.
    pub(super) stalls: u32,
    /// Take the node along.
    pub(super) fatal: u32,
    /// Of a hundred attempts: take many seconds.
    pub(super) slow: u32,
    /// Do not simply start.
    pub(super) unlucky: u32,
    pub(super) crashes: bool,
    pub(super) poison: bool,
    pub(super) stops: bool,
    pub(super) pauses: bool,
    pub(super) cuts: bool,
    pub(super) steps: bool,
    pub(super) revokes: bool,
    pub(super) limits: bool,
    pub(super) hints_lost: bool,
    /// How far clocks are from the true time at most, in milliseconds.
    pub(super) blur: u64,
}

impl Swarm {
    pub(super) fn of(random: &mut fastrand::Rng) -> Self {
        let nodes = if random.u8(..3) == 0 { 0 } else { random.usize(1..=5) };
        let fleet = nodes > 0;
        let mut on = |percent: u32| random.u32(..100) < percent;
        let (fails, lost, late, stalls, fatal) = (on(50), on(50) && fleet, on(30) && fleet, on(30), on(30));
        let (slow, unlucky, poison) = (on(40), on(70), on(25));
        let (crashes, stops, pauses, cuts) = (on(50), on(40), on(40) && fleet, on(30) && fleet);
        let (steps, revokes, limits) = (on(50), on(45) && fleet, on(40));
        let (many, hints_lost, blur, quick) = (on(50), on(30), on(60) && fleet, on(40));
        // Drawn aside: known seeds keep their worlds.
        let side_by_side = random.clone().bool();
        let mut some = |on: bool, most: u32| if on { random.u32(1..=most) } else { 0 };
        Self {
            nodes,
            fails: some(fails, 150),
            lost: some(lost, 200),
            late: some(late, 100),
            stalls: some(stalls, 100),
            fatal: some(fatal, 8),
            slow: some(slow, 25),
            unlucky: some(unlucky, 70),
            clients: random.usize(1..=4),
            max_in_flight: random.usize(1..=8),
            lasts: random.u64(8..=40),
            latency: if quick { 0 } else { [3, 30, 300][random.usize(..3)] },
            blur: if blur { random.u64(1..=800) } else { 0 },
            many,
            side_by_side,
            crashes,
            poison,
            stops,
            pauses,
            cuts,
            steps,
            revokes,
            limits,
            hints_lost,
        }
    }
}
