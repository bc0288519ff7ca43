//! How fast processes start: `process_starts [STARTS [IN_FLIGHT [PROGRAM]]]`, each with its own
//! process alive until it ends. Prints starts per second and this process's own CPU time for one.
//! Needs the feature `testing`.

use std::{sync::Arc, time::Duration};

use sendoff::{
    Guid,
    ports::{Attempt, Running, Starter},
    starter::{Process, ProcessEnv, ProcessOptions, ProcessStarter},
    time::{Clock, SystemClock},
};
use tokio::sync::Semaphore;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let starts: usize = args.next().map_or(Ok(20_000), |text| text.parse())?;
    let in_flight: usize = args.next().map_or(Ok(16), |text| text.parse())?;
    let program = args.next().unwrap_or_else(|| "/bin/true".into());

    let options = ProcessOptions::new().env(ProcessEnv::Inherit).max_running(in_flight);
    let starter = Arc::new(ProcessStarter::with_options(options)?);
    let payload = serde_json::value::to_raw_value(&Process::new(program))?;
    starter.check(&payload, None).map_err(|refusal| format!("{refusal:?}"))?;

    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let begun = SystemClock.elapsed();
    runtime.block_on(async {
        let places = Arc::new(Semaphore::new(in_flight));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..starts {
            let place = Arc::clone(&places).acquire_owned().await?;
            let running = Running::new(move || drop(place));
            let guid = Guid::from_bytes((number as u128).to_be_bytes());
            let attempt = Attempt::for_test(guid, payload.clone(), running);
            let starter = Arc::clone(&starter);
            tasks.spawn(async move { starter.start(attempt).await });
            while let Some(ended) = tasks.try_join_next() {
                ended??;
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        // All processes have ended once all places are back.
        let _all = places.acquire_many(u32::try_from(in_flight)?).await?;
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    let took = SystemClock.elapsed().saturating_sub(begun);
    println!(
        "{:.0} starts/s, {:.1} us of own CPU time each",
        starts as f64 / took.as_secs_f64(),
        own_cpu_time()?.as_secs_f64() * 1e6 / starts as f64
    );
    Ok(())
}

/// User and system time of this process without its children, from `/proc/self/stat`, whose unit
/// is 10 ms.
fn own_cpu_time() -> Result<Duration, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").ok_or("no name")?.1;
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|text| text.parse::<u64>().unwrap_or(0)).sum();
    Ok(Duration::from_millis(ticks * 10))
}
