//! Pure: listeners and containers that two services would fight over.

use super::check;

#[test]
fn listeners_and_labels_must_not_clash() {
    let routed = |name: &str, listen: &str, target: &str, more: &str| {
        let balancer = format!("{{ listen = \"{listen}\"{more} }}");
        format!("[services.{name}]\ntarget = {target}\nbalancer = {balancer}\n")
    };
    let service = |name: &str, listen: &str, target: &str| routed(name, listen, target, "");
    let process = "{ process = { command = [\"w\"] } }";
    let pair = |a, b| service("a", a, process) + &service("b", b, process);
    check(
        &pair("127.0.0.1:9000", "127.0.0.1:9000"),
        &["6: services.b.balancer.routes: \"/\" on 127.0.0.1:9000 is for service `a` already"],
    );
    let three = |b, c| {
        let (x, listen) = ("127.0.0.1:9000", process);
        service("a", x, listen) + &routed("b", x, listen, b) + &routed("c", x, listen, c)
    };
    check(&three(", routes = [\"a.example\", \"/b\"]", ", routes = [\"a.example/b\"]"), &[]);
    check(
        &three(", routes = [\"a.example\"]", ", routes = [\"/c\", \"A.example/\"]"),
        &["9: services.c.balancer.routes: \"a.example\" on 127.0.0.1:9000 is for service `b`"],
    );
    check(
        &three(", routes = [\"/b\"]", ", routes = [\"/c\"], forwarded = true"),
        &["9: services.c.balancer.listen: services on one listener treat clients alike; make"],
    );
    check(&pair("0.0.0.0:9000", "127.0.0.1:9000"), &["6: services.b.balancer.listen: "]);
    check(&pair("127.0.0.1:0", "127.0.0.1:0"), &[]);
    check(&pair("127.0.0.1:9000", "127.0.0.2:9000"), &[]);
    let same = "{ docker = { label = \"a=b\" } }";
    check(
        &(service("a", "127.0.0.1:1", same) + &service("b", "127.0.0.1:2", same)),
        &["5: services.b.target: label `a=b` also selects the containers of service `a`"],
    );
    let compose =
        |project| format!("{{ compose = {{ project = \"{project}\", service = \"c\" }} }}");
    let pair =
        |one: &str, two: &str| service("a", "127.0.0.1:1", one) + &service("b", "127.0.0.1:2", two);
    check(
        &pair(&compose("p"), &compose("p")),
        &["5: services.b.target: service `c` of project `p` also selects the containers of"],
    );
    check(&pair(&compose("p"), &compose("q")), &[]);
}
