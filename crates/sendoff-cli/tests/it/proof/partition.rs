//! Three nodes, each with a network of its own to the database that is cut, gone silent, or loses
//! replies.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::Ordering,
    time::Duration,
};

use testpg::Proxy;

use super::{
    Chance, figure,
    fleet::{Incidents, ordeal},
    load::Load,
    nodes::{Node, three},
};

#[test]
fn a_node_cut_off_starts_nothing_twice() {
    if !testpg::wanted() {
        return;
    }
    let cuts = figure("SENDOFF_CUTS", 3);
    let server = testpg::shared();
    let url = server.new_database().unwrap();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
    let proxies = [(); 3].map(|()| Proxy::start(target));
    let through =
        |proxy: &Proxy| url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let urls = [0, 1, 2].map(|number| through(&proxies[number]));
    let nodes = three([&urls[0], &urls[1], &urls[2]]);
    let verdict = ordeal(&nodes, usize::MAX, true, |load, chance| cut(&proxies, load, chance, cuts));
    nodes.iter().for_each(Node::check);
    println!("{verdict}");
}

/// Cuts so many times, then ends the load.
fn cut(proxies: &[Proxy; 3], load: &Load<'_>, mut chance: Chance, cuts: usize) -> Incidents {
    // The lease is 20 s, and after 45 s a node is declared dead: only the long run has the time.
    let longest = if cuts >= 10 { 70_000 } else { 1_000 };
    let mut pause = |longest: u64| {
        // Moments are chance: nothing waits for them.
        std::thread::sleep(Duration::from_millis(50 + chance.below(longest)));
        chance.below(1 << 16)
    };
    for _ in 0..cuts {
        let choice = pause(1_500);
        let proxy = &proxies[choice as usize % 3];
        match choice / 3 % 4 {
            0 => proxy.cut(),
            1 => proxy.stall(),
            2 => proxy.stall_replies(),
            _ => {
                for _ in 0..5 {
                    proxy.cut();
                    pause(200);
                    proxy.heal();
                    pause(200);
                }
            }
        }
        pause(longest);
        proxy.heal();
    }
    load.stop.store(true, Ordering::Relaxed);
    Incidents { cuts, ..Incidents::default() }
}
