//! I/O: what the API tells of the balancer: how replicas stand, and why one was chosen.

use super::*;

/// A replica whose checks fail because its work takes longer than they wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_fails_its_checks_is_told_and_used_for_want_of_better() {
    let balancer = "slow_start = \"0s\", algorithm = \"key_hash\", key = \"path\", max_in_flight = 1, \
                    check = { path = \"/work\", interval = \"100ms\", timeout = \"1ms\" }";
    let world = World::balanced("", "500ms", balancer, ", \"--cost\", \"500ms\"").await;
    let fails = |_, body: &Value| body["replicas"][0]["passes_checks"] == false;
    let replicas = world.until("/v1/services/web/replicas", fails).await;
    let replica = &replicas["replicas"][0];
    // The only one is unhealthy, below the panic threshold of one half: health is ignored.
    assert_eq!((&replica["healthy"], &replica["eligible"]), (&json!(false), &json!(true)));
    assert_eq!((&replica["ejections"], &replica["latency_p99_ms"]), (&json!(0), &Value::Null));
    // Any text is a key here.
    let (status, target) = world.get("/v1/services/web/target?key=%2Fsome%2Fpath").await;
    assert_eq!((status, &target["id"]), (200, &replica["id"]));
    let choice = &target["choice"];
    assert_eq!((&choice["algorithm"], &choice["panic"]), (&json!("key_hash"), &json!(true)));
    assert_eq!(choice["reason"], "the key's hash is its among 1");
    let (_, _, metrics) = world.request("GET", "/metrics", None).await;
    let metrics = String::from_utf8(metrics.to_vec()).expect("text");
    let id = replica["id"].as_str().expect("an id");
    let line = format!("foresail_replica_passes_checks{{service=\"web\",replica=\"{id}\"}} 0.0\n");
    assert!(metrics.contains(&line), "{metrics}");

    // Nobody is left: each is passed over for a reason.
    let until = Utc::now() + TimeDelta::minutes(5);
    let order = json!({"replicas": 0, "until": until, "reason": "test"});
    assert_eq!(world.send("PUT", "/v1/services/web/override", Some(order)).await.0, 200);
    let refused = world.until("/v1/services/web/target", |status, _| status == 503).await;
    let error = &refused["error"];
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("no_ready_replica"), &json!("no replica is ready"))
    );
    assert!(error["details"]["passed_over"].is_array(), "{error}");
    world.stop().await;
}
