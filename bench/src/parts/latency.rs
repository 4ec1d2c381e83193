//! Latency at a fixed rate, far from saturation: the same work for every server.

use crate::{
    measure::{
        load::{self, Pace},
        samples::Measured,
    },
    peers::{
        Target,
        Trait::{Concurrent, KeepAlive},
    },
    session::Session,
};

use super::throughput::WARM_UP;

const CONNECTIONS: usize = 32;
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

pub fn measure(session: &Session) -> Measured {
    let rounds = session.options.rounds(15, 1);
    let rate = session.options.rate;
    let duration = session.options.load_time();
    let mut columns = QUANTILES.map(|(name, _)| session.metric(name, "µs"));
    let able = |target: &Target| target.can(&[KeepAlive, Concurrent]);
    let left_out = session.each_target("latency", rounds, able, |round, target| {
        let server = session.start(target, &session.cores, 1, false)?;
        load::drive(server.port, CONNECTIONS, Pace::Saturate, WARM_UP)?;
        let outcome = load::drive(server.port, CONNECTIONS, Pace::Rate(rate), duration)?;
        for (column, (_, quantile)) in columns.iter_mut().zip(QUANTILES) {
            let nanos = outcome.latency.value_at_quantile(quantile);
            column.record(&target.peer.name, round, nanos as f64 / 1e3);
        }
        Ok(())
    });
    Measured {
        title: format!(
            "{rate} requests a second over {CONNECTIONS} connections, from when each was due, {rounds} rounds of \
             {duration:?}"
        ),
        tables: vec![columns.into()],
        left_out,
        ..Measured::default()
    }
}
