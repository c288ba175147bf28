//! What is counted, for Prometheus. Labels come from fixed sets, so that no client can grow them.

use std::{fmt::Write, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{database::PoolStatus, error::Kind};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FaultLabels {
    kind: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PoolLabels {
    role: &'static str,
    state: &'static str,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    faults: Family<FaultLabels, Counter>,
    pools: Family<PoolLabels, Gauge>,
    subscriptions: Gauge<i64>,
    /// Open connections to the public listener.
    pub connections: Gauge<i64>,
    /// Connections turned away because there were too many.
    pub turned_away: Counter<u64, AtomicU64>,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("mcp_frontend");
        let requests = Family::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        // From half a millisecond to eight seconds.
        let durations = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(0.0005, 2.0, 15))) as fn() -> Histogram,
        );
        registry.register(
            "http_request_duration_seconds",
            "Time to the answer's first byte",
            durations.clone(),
        );
        let faults = Family::default();
        registry.register("faults", "Requests that failed, by whose fault it was", faults.clone());
        let pools = Family::default();
        registry.register("database_connections", "Connections of the pools", pools.clone());
        let subscriptions = Gauge::default();
        registry.register("subscriptions", "Open subscriptions to changes of lists", subscriptions.clone());
        let connections = Gauge::default();
        registry.register("http_connections", "Open connections", connections.clone());
        let turned_away = Counter::default();
        registry.register("http_connections_turned_away", "Connections over the limit", turned_away.clone());
        Self { registry, requests, durations, faults, pools, subscriptions, connections, turned_away }
    }

    pub fn answered(&self, route: &'static str, status: u16, elapsed: Duration) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
        self.durations.get_or_create(&RouteLabels { route }).observe(elapsed.as_secs_f64());
    }

    pub fn failed(&self, kind: Kind, code: &'static str) {
        self.faults.get_or_create(&FaultLabels { kind: kind.as_str(), code }).inc();
    }

    /// The text exposition, with the pools and subscriptions as they are now.
    pub fn render(&self, pools: &[(&'static str, PoolStatus)], subscriptions: usize) -> String {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (role, status) in pools {
            for (state, count) in
                [("open", status.size), ("idle", status.idle), ("waited_for", status.waiting)]
            {
                self.pools.get_or_create(&PoolLabels { role, state }).set(number(count));
            }
        }
        self.subscriptions.set(number(subscriptions));
        let mut out = String::new();
        if let Err(error) = text::encode(&mut out, &self.registry) {
            let _ = writeln!(out, "# {error}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_rendered() {
        let metrics = Metrics::new();
        metrics.answered("mcp", 200, Duration::from_millis(3));
        metrics.failed(Kind::Database, "database_unavailable");
        let text = metrics.render(&[("auth", PoolStatus { size: 3, idle: 2, waiting: 1 })], 4);
        for line in [
            r#"mcp_frontend_http_requests_total{route="mcp",status="200"} 1"#,
            r#"mcp_frontend_faults_total{kind="database",code="database_unavailable"} 1"#,
            r#"mcp_frontend_database_connections{role="auth",state="idle"} 2"#,
            r#"mcp_frontend_http_request_duration_seconds_bucket{le="0.002",route="mcp"} 0"#,
            r#"mcp_frontend_http_request_duration_seconds_bucket{le="0.004",route="mcp"} 1"#,
            "mcp_frontend_subscriptions 4",
            "mcp_frontend_http_connections 0",
            "mcp_frontend_http_connections_turned_away_total 0",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let bounds: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once("_bucket{le=\"")?.1.split('"').next())
            .filter_map(|bound| bound.parse::<f64>().ok())
            .collect();
        assert_eq!((bounds.len(), bounds[0], bounds[14]), (16, 0.0005, 8.192), "{bounds:?}");
    }
}
