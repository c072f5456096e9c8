//! I/O: a running service is switched between observing and acting.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_is_switched_until_a_restart() {
    let world = World::start("").await;
    let path = "/v1/services/web/mode";
    let request = json!({"mode": "observe", "reason": "maintenance"});
    let (status, answer) = world.send("PUT", path, Some(request)).await;
    let said = (&answer["mode"], &answer["configured"]);
    assert_eq!((status, said), (200, (&json!("observe"), &json!("act"))));
    let note = answer["note"].as_str().expect("a note");
    assert!(note.contains("the configuration still says `act`"), "{note}");
    let noted = |body: &Value| body["notes"].to_string().contains("mode observe by request");
    let observes = |_, body: &Value| body["mode"] == "observe" && noted(body);
    let detail = world.until("/v1/services/web", observes).await;
    assert!(detail["notes"].to_string().contains("maintenance"), "{detail}");

    // Who observes starts nothing, whatever is wanted.
    let until = Utc::now() + TimeDelta::minutes(5);
    let order = json!({"replicas": 2, "until": until, "reason": "test"});
    assert_eq!(world.send("PUT", "/v1/services/web/override", Some(order)).await.0, 200);
    let wanted = |_, body: &Value| body["decision"]["desired_replicas"] == 2;
    let detail = world.until("/v1/services/web", wanted).await;
    let counts = &detail["replicas"];
    let all = ["starting", "warming", "ready"].map(|phase| counts[phase].as_u64().unwrap_or(0));
    assert!(all.iter().sum::<u64>() <= 1, "{detail}");
    assert_eq!(world.send("PUT", path, Some(json!({"mode": "act"}))).await.0, 200);
    let acts = |_, body: &Value| body["replicas"]["ready"] == 2 && !noted(body);
    world.until("/v1/services/web", acts).await;

    for wrong in [json!({"mode": "pause"}), json!({}), json!({"mode": "act", "reason": " "})] {
        let (status, error) = world.send("PUT", path, Some(wrong)).await;
        assert_eq!((status, &error["error"]["code"]), (400, &json!("bad_body")));
    }
    world.stop().await;
}

/// Two of them in one process are as two on one machine: the second may not act.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_where_another_acts() {
    let shared = tempfile::tempdir().expect("a folder");
    let label = format!("foresail.test={}", shared.path().display());
    let engine = format!("unix://{}/none.sock", shared.path().display());
    let start = async |mode: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "[api]\nlisten = \"127.0.0.1:0\"\n[store]\npath = {:?}\n[services.web]\n\
             mode = {mode:?}\nsample_interval = \"100ms\"\nevaluation_interval = \"500ms\"\n\
             target = {{ docker = {{ label = {label:?}, host = {engine:?} }} }}\n",
            folder.path()
        );
        let config = config::parse(&text).unwrap_or_else(|e| panic!("{e:?}"));
        let shutdown = CancellationToken::new();
        let running = service::start(config, shutdown.clone()).await.expect("free ports");
        World { folder, running, shutdown }
    };
    let first = start("act").await;
    // There is no engine to hold a lock on, so it is to act, but cannot yet.
    let act = || Some(json!({"mode": "act"}));
    let path = "/v1/services/web/mode";
    let (status, answer) = first.send("PUT", path, act()).await;
    let note = answer["note"].as_str().unwrap_or_default();
    assert!(status == 200 && note.starts_with("as the configuration says; not yet:"), "{answer}");
    let second = start("observe").await;
    let (status, error) = second.send("PUT", path, act()).await;
    assert_eq!((status, &error["error"]["code"]), (409, &json!("another_acts")), "{error}");
    let message = error["error"]["message"].as_str().unwrap_or_default();
    let process = format!("process {}", std::process::id());
    assert!(message.starts_with("another Foresail") && message.contains(&process), "{message}");
    // The next snapshot knows nothing of it.
    let as_before = |_, body: &Value| !body["notes"].to_string().contains("by request");
    second.until("/v1/services/web", as_before).await;
    second.stop().await;
    first.stop().await;
}
