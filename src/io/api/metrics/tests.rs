//! Pure: tests of both text formats.

use super::*;
use crate::io::api::tests::{snapshot, web};

#[test]
fn both_formats_show_every_metric() {
    let (service, snapshot) = (web(), Arc::new(snapshot()));
    let open = render(&[(&service, snapshot)]);
    assert!(open.ends_with("# EOF\n"));
    assert!(open.contains("# TYPE foresail_samples counter\n"));
    let classic = classic(&open);
    let expected = [
        "foresail_demand{service=\"web\"} 2.5\n",
        "foresail_replicas{service=\"web\",phase=\"ready\"} 1.0\n",
        "foresail_forecast_peak{service=\"web\",forecast_quantile=\"0.9\"} 4.5\n",
        "# HELP foresail_samples_total Samples taken in.\n",
        "# TYPE foresail_samples_total counter\n",
        "foresail_samples_total{service=\"web\"} 7\n",
        "foresail_samples_refused_total{service=\"web\",reason=\"nan\"} 2\n",
        "foresail_waiting_requests{service=\"web\"} 3.0\n",
        "foresail_requests_refused_total{service=\"web\"} 2\n",
        "foresail_replica_in_flight{service=\"web\",replica=\"b\"} 0.0\n",
        "foresail_replica_ejected{service=\"web\",replica=\"a\"} 1.0\n",
        "foresail_replica_latency_p99_seconds{service=\"web\",replica=\"a\"} 0.09\n",
        "foresail_replica_ejections_total{service=\"web\",replica=\"a\"} 2\n",
        "foresail_decisions_total{service=\"web\",basis=\"forecast\"} 3\n",
        "foresail_service_info{service=\"web\",mode=\"observe\",demand_unit=\"cores\",\
         policy=\"predictive\"} 1.0\n",
    ];
    for line in expected {
        assert!(classic.contains(line), "{line} is missing in\n{classic}");
    }
    assert!(!classic.contains("# EOF"));
    let balancer = balancer::GAUGES.iter().chain(balancer::COUNTERS);
    for metric in GAUGES.iter().chain(COUNTERS).chain(balancer) {
        assert!(open.contains(&format!("# HELP {} ", metric.name)), "{}", metric.name);
    }
}
