//! What jobs may reach, each kept once: jobs of one caller share it, however it came with them.

use std::{collections::HashSet, sync::Arc};

use crate::job::Grant;

/// So many are kept before it is looked for the first time which are still needed.
const FEW: usize = 16;

#[derive(Default)]
pub(super) struct Grants {
    known: HashSet<Arc<Grant>>,
    /// Those that no job has any more go once there are so many: twice what was needed last time.
    sweep_at: usize,
}

impl Grants {
    /// The one that is equal to this.
    pub(super) fn shared(&mut self, grant: &Arc<Grant>) -> Arc<Grant> {
        if let Some(known) = self.known.get(grant) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at.max(FEW) {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = 2 * self.known.len();
        }
        self.known.insert(grant.clone());
        grant.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Reach;

    fn grant(n: usize) -> Arc<Grant> {
        let reach = Reach { env: vec![n.to_string()], ..Reach::default() };
        Arc::new(Grant { local: false, reach })
    }

    #[test]
    fn equal_grants_are_one_and_those_that_nobody_has_go() {
        let mut grants = Grants::default();
        let kept: Vec<_> = (0..100).map(|n| grants.shared(&grant(n))).collect();
        for (n, first) in kept.iter().enumerate() {
            assert!(Arc::ptr_eq(first, &grants.shared(&grant(n))));
        }
        for n in 100..10_000 {
            grants.shared(&grant(n));
        }
        assert!(grants.known.len() <= 200, "{}", grants.known.len());
        assert!(kept.iter().all(|first| Arc::ptr_eq(first, &grants.shared(&first.clone()))));
    }
}
