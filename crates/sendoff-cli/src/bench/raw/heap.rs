//! Pending jobs as nothing but data: a heap by time and a map by guid.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use uuid::Uuid;

use crate::bench::sample::{Meter, Sample, resident};

/// The bytes for each job, and how fast all are taken out by their guids.
pub(in crate::bench) fn pending(jobs: u64) -> Sample {
    let before = resident();
    let mut heap = BinaryHeap::new();
    let mut slots: HashMap<Uuid, u32> = HashMap::new();
    let mut guids = Vec::new();
    for slot in 0..u32::try_from(jobs).unwrap_or(u32::MAX) {
        let guid = Uuid::now_v7();
        heap.push(Reverse((u64::from(slot), slot)));
        slots.insert(guid, slot);
        guids.push(guid);
    }
    let bytes = (resident() - before) / jobs.max(1) as f64;
    let mut cancelled = vec![false; guids.len()];
    let meter = Meter::start();
    for guid in &guids {
        if let Some(slot) = slots.remove(guid) {
            cancelled[slot as usize] = true;
        }
    }
    // The heap meets what was cancelled when its time comes.
    let sample = meter.stop(jobs);
    heap.retain(|Reverse((_, slot))| !cancelled[*slot as usize]);
    assert!(heap.is_empty(), "all were cancelled");
    Sample { bytes: Some(bytes), ..sample }
}
