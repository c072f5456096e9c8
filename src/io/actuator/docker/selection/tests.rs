//! Pure: tests of who belongs to a service, what is cloned, and what a redeploy looks like.

use super::*;
use chrono::DateTime;
use proptest::prelude::*;
use serde_json::json;

fn shop_web() -> Selection {
    Selection::Compose { project: "shop".into(), service: "web".into() }
}

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn who_belongs_to_a_service() {
    let check = |selection: &Selection, pairs: &[(&str, &str)], expected: bool| {
        assert_eq!(selection.includes(Some(&labels(pairs))), expected, "{selection}: {pairs:?}");
    };
    let (project, service) = ((compose::PROJECT, "shop"), (compose::SERVICE, "web"));
    let compose = shop_web();
    check(&compose, &[project, service], true);
    check(&compose, &[project, service, (compose::ONE_OFF, "False")], true);
    check(&compose, &[project, service, (compose::ONE_OFF, "True")], false);
    check(&compose, &[project, (compose::SERVICE, "db")], false);
    check(&compose, &[(compose::PROJECT, "shop-2"), service], false);
    check(&compose, &[service], false);
    check(&compose, &[], false);
    let label = Selection::Label("a=b=c".into());
    check(&label, &[("a", "b=c")], true);
    check(&label, &[("a", "b")], false);
    let key = Selection::Label("a".into());
    check(&key, &[("a", "anything")], true);
    check(&key, &[("b", "a")], false);
    check(&key, &[("a", "b"), (compose::ONE_OFF, "True")], false);
    check(&key, &[("a", "b"), (LOCK_LABEL, "a")], false);
    assert!(!compose.includes(None) && !label.includes(None) && !key.includes(None));
}

#[test]
fn a_listed_container_is_read_with_what_compose_noted() {
    let check = |selection: &Selection, number: serde_json::Value, expected: Option<u32>| {
        let mut labels = labels(&[
            (compose::PROJECT, "shop"),
            (compose::SERVICE, "web"),
            (compose::CONFIG_HASH, "a"),
            ("foresail.service", "web"),
        ]);
        labels.extend(number.as_str().map(|it| (compose::NUMBER.to_owned(), it.to_owned())));
        let summary = json!({"Id": "1", "Names": ["/shop_web_1"], "State": "running",
            "Created": 7, "Labels": labels});
        let summary = serde_json::from_value(summary).expect("summary");
        let found = selection.container(summary).expect("it belongs to the service");
        let hash = matches!(selection, Selection::Compose { .. }).then(|| "a".to_owned());
        assert_eq!((found.number, found.config_hash), (expected, hash), "{number}");
        assert_eq!((found.name.as_str(), found.created, found.clone), ("shop_web_1", 7, false));
    };
    check(&shop_web(), json!("3"), Some(3));
    // Somebody wrote the label by hand.
    check(&shop_web(), json!("-1"), None);
    check(&shop_web(), json!("4294967296"), None);
    check(&shop_web(), json!(null), None);
    check(&Selection::Label("foresail.service=web".into()), json!("3"), None);
}

/// `hash` and number of a replica created at that second; `+` in front makes it a clone.
fn containers(replicas: &[(&str, i64)]) -> Vec<Container> {
    let container = |(index, (hash, created)): (usize, &(&str, i64))| Container {
        id: index.to_string(),
        name: format!("shop_web_{index}"),
        state: State::RUNNING,
        created: *created,
        clone: hash.starts_with('+'),
        number: Some(index as u32),
        config_hash: Some(hash.trim_start_matches('+').to_owned()),
    };
    replicas.iter().enumerate().map(container).collect()
}

#[test]
fn clones_come_from_the_newest_configuration_and_the_others_are_outdated() {
    let check = |replicas: &[(&str, i64)], template: Option<usize>, outdated: &[usize]| {
        let containers = containers(replicas);
        let found = template_of(&containers).map(|it| it.id.parse().expect("a number"));
        assert_eq!(found, template, "{replicas:?}");
        let old = (0..containers.len()).filter(|&i| is_outdated(&containers, &containers[i]));
        assert_eq!(old.collect::<Vec<_>>(), outdated, "{replicas:?}");
    };
    check(&[], None, &[]);
    check(&[("a", 1), ("a", 2), ("+a", 3)], Some(0), &[]);
    // All of the user's own are gone.
    check(&[("+a", 1), ("+a", 2)], Some(0), &[]);
    check(&[("+a", 1), ("a", 2)], Some(1), &[]);
    // A redeploy; then back to what was before.
    check(&[("a", 1), ("+a", 2), ("b", 3), ("b", 4)], Some(2), &[0, 1]);
    check(&[("a", 1), ("b", 2), ("a", 3)], Some(0), &[1]);
    // A clone of the old one that was started in the middle of it does not count as newer.
    check(&[("a", 1), ("b", 2), ("+a", 3)], Some(1), &[0, 2]);
}

#[test]
fn a_redeploy_is_waited_for_until_it_has_settled() {
    let check = |replicas: &[(&str, i64)], now: i64, expected: bool| {
        let now = DateTime::from_timestamp(now, 0).expect("in range");
        assert_eq!(is_redeploying(&containers(replicas), now), expected, "{replicas:?} {now}");
    };
    let two = [("a", 100), ("b", 1_000)];
    check(&[], 0, false);
    check(&[("a", 100), ("a", 1_000)], 1_001, false);
    check(&two, 1_000, true);
    check(&two, 1_029, true);
    check(&two, 1_030, false);
    // The engine's clock is ahead: by a little it is still the same redeploy, by a day it is not
    // waited for.
    check(&two, 971, true);
    check(&two, -85_400, false);
    check(&[("a", i64::MIN), ("b", i64::MIN)], 0, false);
    // While Compose recreates a container of the same configuration, there are two of it.
    let mut recreated = containers(&[("a", 100), ("a", 1_000)]);
    recreated[0].name = "0123456789ab_shop_web_1".to_owned();
    let at = |second| DateTime::from_timestamp(second, 0).expect("in range");
    assert!(is_redeploying(&recreated, at(1_005)));
    assert!(!is_redeploying(&recreated, at(1_040)));
}

#[test]
fn the_last_container_of_the_newest_configuration_stays() {
    let check = |replicas: &[(&str, i64)], id: &str, expected: bool| {
        assert_eq!(can_be_spared(&containers(replicas), id), expected, "{replicas:?} {id}");
    };
    check(&[("a", 1)], "0", false);
    check(&[("a", 1), ("+a", 2)], "0", true);
    check(&[("a", 1), ("+a", 2)], "1", true);
    check(&[("a", 1), ("b", 2)], "0", true);
    check(&[("a", 1), ("b", 2)], "1", false);
}

proptest! {
    /// Whatever is there: a template is never outdated, and there is one unless nothing is there.
    #[test]
    fn there_is_always_a_template(
        replicas in proptest::collection::vec(("\\+?[abc]", 0i64..9), 0..12),
        now in any::<i64>(),
    ) {
        let replicas = replicas.iter().map(|(hash, at)| (hash.as_str(), *at)).collect::<Vec<_>>();
        let containers = containers(&replicas);
        let template = template_of(&containers);
        prop_assert_eq!(template.is_some(), !containers.is_empty());
        prop_assert!(template.is_none_or(|template| !is_outdated(&containers, template)));
        if let Some(now) = DateTime::from_timestamp(now, 0) {
            is_redeploying(&containers, now);
        }
    }
}
