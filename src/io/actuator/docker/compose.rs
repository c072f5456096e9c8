//! Pure: how Compose knows its replicas: by labels, and by names that end in a number.
//!
//! A clone that carries the labels of its template, except for a number of its own, is a replica as
//! Compose would have made it: it is listed, logged, recreated and removed with the others. Both
//! generations name replicas `project`, `service` and number, the first joined by `_`, the second
//! by `-`. Each renames a container that it recreates for a moment, by an id in front.

use bollard::models::ContainerCreateBody;

use super::selection::{Container, Selection};

pub const PROJECT: &str = "com.docker.compose.project";
pub const SERVICE: &str = "com.docker.compose.service";
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
pub const NUMBER: &str = "com.docker.compose.container-number";
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";

/// Labels that speak of one container alone: part of its name once, what it took the place of.
const OF_ONE: [&str; 2] = ["com.docker.compose.slug", "com.docker.compose.replace"];

/// What the names of replicas begin with, from one of them.
///
/// # Errors
/// The container has another name, which Compose gives no second replica.
pub fn name_prefix(project: &str, service: &str, replica: &str) -> Result<String, String> {
    let project = project.trim_start_matches(['-', '_']);
    let numbered = |rest: &str| rest.split('_').next().is_some_and(|it| it.parse::<u32>().is_ok());
    let begins = |prefix: &String| {
        let rests = [replica, without_temporary(replica)].map(|name| name.strip_prefix(prefix));
        rests.into_iter().flatten().any(numbered)
    };
    let prefix = |joint| format!("{project}{joint}{service}{joint}");
    ['_', '-'].map(prefix).into_iter().find(begins).ok_or_else(|| {
        format!(
            "container {replica} has a name of its own, which only one can have: take \
             `container_name` out of the Compose file, and Compose names it {project}-{service}-1"
        )
    })
}

/// Whether Compose is recreating the container of this name.
pub fn is_temporary(name: &str) -> bool {
    without_temporary(name) != name
}

fn without_temporary(name: &str) -> &str {
    let is_id = |id: &str| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split_once('_').filter(|(id, _)| is_id(id)).map_or(name, |(_, name)| name)
}

/// The number that Compose would give the next replica.
pub fn next_number(containers: &[Container]) -> u32 {
    containers.iter().filter_map(|it| it.number).max().unwrap_or(0).saturating_add(1)
}

/// Makes the copy of a template the replica with this number.
pub fn number(body: &mut ContainerCreateBody, number: u32) {
    let labels = body.labels.get_or_insert_default();
    labels.retain(|key, _| !OF_ONE.contains(&key.as_str()));
    labels.insert(NUMBER.to_owned(), number.to_string());
}

/// Notes on a redeploy that the containers show.
pub fn notes(selection: &Selection, redeploying: bool, outdated: usize) -> Option<String> {
    match (redeploying, outdated) {
        (true, _) => Some(under_way(selection)),
        (false, 0) => None,
        (false, outdated) => Some(format!(
            "{selection} was redeployed: {outdated} of its containers have the old configuration; \
             those that Foresail started are replaced, and all leave first when the load falls"
        )),
    }
}

/// Why nothing is started or stopped.
pub fn under_way(selection: &Selection) -> String {
    format!("{selection} is being redeployed: nothing is started or stopped until it has settled")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_replicas() {
        let check = |project: &str, name: &str, expected: Option<&str>| {
            let found = name_prefix(project, "web", name);
            assert_eq!(found.as_deref().ok(), expected, "{project} {name}");
            if let Err(reason) = found {
                assert!(reason.contains("container_name"), "{reason}");
            }
        };
        check("shop", "shop_web_1", Some("shop_web_"));
        check("shop", "shop-web-12", Some("shop-web-"));
        // Of version 1.23, which put a random word behind the number.
        check("shop", "shop_web_1_0a1b2c3d4e5f", Some("shop_web_"));
        // Being recreated.
        check("shop", "0a1b2c3d4e5f_shop_web_1", Some("shop_web_"));
        check("shop", "0a1b2c3d4e5f_shop-web-1", Some("shop-web-"));
        // Compose leaves these characters out of names at the beginning.
        check("_shop", "shop_web_1", Some("shop_web_"));
        check("my-shop", "my-shop_web_1", Some("my-shop_web_"));
        // The project is named like an id.
        check("0a1b2c3d4e5f", "0a1b2c3d4e5f_web_1", Some("0a1b2c3d4e5f_web_"));
        check("shop", "frontend", None);
        check("shop", "shop_web", None);
        check("shop", "shop_web_one", None);
        check("shop", "shop_web_run_0a1b2c3d4e5f", None);
        check("shop", "shop_web_", None);
        check("shop", "shop-web_1", None);
        check("shop", "0a1b2c3d4e5f_frontend", None);
        check("shop", "", None);
    }

    #[test]
    fn a_number_of_its_own_and_nothing_of_its_template_s_life() {
        let mut body = ContainerCreateBody::default();
        number(&mut body, 1);
        let labels = body.labels.get_or_insert_default();
        labels.insert(OF_ONE[0].to_owned(), "0a1b2c3d4e5f".to_owned());
        labels.insert(OF_ONE[1].to_owned(), "an id".to_owned());
        labels.insert(CONFIG_HASH.to_owned(), "a".to_owned());
        number(&mut body, 2);
        let mut labels = body.labels.unwrap_or_default().into_iter().collect::<Vec<_>>();
        labels.sort();
        let expected = [(CONFIG_HASH, "a"), (NUMBER, "2")];
        assert_eq!(labels, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    proptest! {
        /// What Compose makes is understood, and what is made of it is understood again.
        #[test]
        fn a_prefix_leads_to_names_of_the_same_prefix(
            project in "[a-z0-9][-_a-z0-9]{0,8}",
            service in "[a-zA-Z0-9][-_.a-zA-Z0-9]{0,8}",
            joint in "[-_]",
            number in any::<u32>(),
        ) {
            let name = format!("{project}{joint}{service}{joint}{number}");
            let prefix = name_prefix(&project, &service, &name);
            if let Ok(prefix) = &prefix {
                let next = format!("{prefix}{}", number.wrapping_add(1));
                let found = name_prefix(&project, &service, &next);
                prop_assert_eq!(found.as_ref(), Ok(prefix));
            }
            prop_assert_eq!(prefix, Ok(format!("{project}{joint}{service}{joint}")));
        }

        #[test]
        fn no_name_makes_it_panic(project in ".*", service in ".*", name in ".*") {
            let _ = name_prefix(&project, &service, &name);
        }
    }
}
