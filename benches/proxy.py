#!/usr/bin/env python3
"""Foresail's proxy beside nginx and HAProxy: the same replicas, the same load, one core each.

    apt-get install nginx-light haproxy wrk
    cargo build --release && sudo benches/proxy.py [--rounds 5] [--seconds 3] [case ...]

Replicas and load share core 0; the proxy under test has core 1 to itself (cases *-2-cores: both
cores are everybody's). The three take turns, round by round, and the table has the medians; only
ratios mean much. All runs at nice -15, where that is allowed. Everything is on 127.0.0.1.
"""

import argparse, json, os, re, resource, shutil, signal, socket, statistics, subprocess, sys, tempfile, time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = ["foresail", "nginx", "haproxy"]
PORTS = {"api": 19080, "foresail": 19000, "nginx": 19001, "haproxy": 19002}
# name: (connections, replicas, path, cores of the proxy)
CASES = {
    "small": (64, 1, "/small", "1"),
    "large": (16, 1, "/large", "1"),
    "connections-1": (1, 1, "/small", "1"),
    "connections-1000": (1000, 1, "/small", "1"),
    "replicas-10": (64, 10, "/small", "1"),
    "replicas-200": (64, 200, "/small", "1"),
    "small-2-cores": (64, 1, "/small", "0,1"),
}

REPLICA = """daemon off; pid {dir}/replica-{port}.pid; error_log /dev/null crit;
worker_processes 1; master_process off;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; keepalive_requests 100000000; keepalive_timeout 600;
 tcp_nodelay on; server {{ listen 127.0.0.1:{port} backlog=4096; root {dir}/files; }} }}
"""
NGINX = """daemon off; pid {dir}/nginx.pid; error_log /dev/null crit; worker_processes {workers};
worker_rlimit_nofile 20000;
events {{ worker_connections 12000; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600;
 upstream u {{ {servers} keepalive 1024; keepalive_requests 100000000; }}
 server {{ listen 127.0.0.1:{port} backlog=4096;
  location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection "";
   proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
   proxy_set_header X-Forwarded-Proto $scheme; proxy_max_temp_file_size 0; proxy_buffer_size 16k; proxy_buffers 8 32k; }} }} }}
"""
HAPROXY = """global
 nbthread {workers}
 maxconn 12000
 no strict-limits
defaults
 mode http
 option forwardfor
 http-reuse always
 timeout connect 5s
 timeout client 600s
 timeout server 600s
frontend f
 bind 127.0.0.1:{port}
 http-request set-header X-Forwarded-Proto http
 default_backend b
backend b
 balance roundrobin
{servers}
"""
FORESAIL = """[api]
listen = "127.0.0.1:{api}"
[store]
path = "{dir}/data"
[services.web]
mode = "act"
policy = "static"
static_replicas = {replicas}
capacity = 1000
evaluation_interval = "1s"
replicas = {{ min = {replicas}, max = {replicas} }}
target = {{ process = {{ command = ["sh", "{dir}/replica.sh", "{{port}}"], ready_path = "/small" }} }}
balancer = {{ listen = "127.0.0.1:{port}", algorithm = "round_robin", slow_start = "0s" }}
"""


class World:
    """The three proxies in front of the same replicas."""

    def __init__(self, binary, replicas, cores):
        self.dir = tempfile.mkdtemp(prefix="foresail-bench-")
        self.started = []
        os.chmod(self.dir, 0o755)
        os.mkdir(f"{self.dir}/files")
        for name, size in [("small", 612), ("large", 4 << 20)]:
            with open(f"{self.dir}/files/{name}", "wb") as file:
                file.write(b"x" * size)
        with open(f"{self.dir}/replica.conf", "w") as file:
            file.write(REPLICA.replace("{dir}", self.dir).replace("{{", "{").replace("}}", "}"))
        with open(f"{self.dir}/replica.sh", "w") as file:
            file.write(f"sed s/{{port}}/$1/g {self.dir}/replica.conf > {self.dir}/replica-$1.conf\n"
                       f"exec taskset -c 0 nginx -c {self.dir}/replica-$1.conf\n")
        workers = len(cores.split(","))
        self.write("foresail.toml", FORESAIL, api=PORTS["api"], port=PORTS["foresail"],
                   replicas=replicas)
        self.pids = {"foresail": self.start(cores, binary, "serve", "--config",
                                            f"{self.dir}/foresail.toml")}
        try:
            self.begin(cores, workers, self.addresses(replicas))
        except SystemExit:
            self.stop()
            raise

    def begin(self, cores, workers, addresses):
        """The peers, in front of the replicas that Foresail started."""
        self.write("nginx.conf", NGINX, port=PORTS["nginx"], workers=workers,
                   servers=" ".join(f"server {a};" for a in addresses))
        self.write("haproxy.cfg", HAPROXY, port=PORTS["haproxy"], workers=workers,
                   servers="\n".join(f" server s{i} {a}" for i, a in enumerate(addresses)))
        self.pids["nginx"] = self.start(cores, "nginx", "-c", f"{self.dir}/nginx.conf")
        self.pids["haproxy"] = self.start(cores, "haproxy", "-db", "-f", f"{self.dir}/haproxy.cfg")
        for peer in PEERS:
            until(lambda: get(f"http://127.0.0.1:{PORTS[peer]}/small"), peer)

    def write(self, name, text, **values):
        with open(f"{self.dir}/{name}", "w") as file:
            file.write(text.format(dir=self.dir, **values))

    def start(self, cores, *command):
        out = open(f"{self.dir}/log-{os.path.basename(command[0])}", "w")
        process = subprocess.Popen(urgent(["taskset", "-c", cores, *command]),
                                   stdout=out, stderr=out)
        self.started.append(process)
        return process.pid

    def addresses(self, replicas):
        def ready():
            found = json.loads(get(f"http://127.0.0.1:{PORTS['api']}/v1/services/web/replicas"))["replicas"]
            ready = [r["address"] for r in found if r["phase"] == "ready"]
            return ready if len(ready) == replicas else None
        return until(ready, "the replicas", 60)

    def stop(self):
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def urgent(command):
    return ["nice", "-n", "-15", *command] if os.geteuid() == 0 else command


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


def until(check, what, seconds=20):
    last = None
    for _ in range(seconds * 20):
        try:
            found = check()
            if found:
                return found
        except OSError as error:
            last = error
        time.sleep(0.05)
    sys.exit(f"{what} did not come up: {last}")


def unit(text):
    number, suffix = re.fullmatch(r"([\d.]+)(\D*)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4, "": 1, "KB": 1e3, "MB": 1e6,
                            "GB": 1e9}[suffix]


def cpu_seconds(pid):
    """CPU time of a process and its children so far."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    children = open(f"/proc/{pid}/task/{pid}/children").read().split()
    nginx = open(f"/proc/{pid}/comm").read().strip() == "nginx"
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + (sum(map(cpu_seconds, children)) if nginx else 0)


def load(world, peer, connections, path, seconds):
    before = cpu_seconds(world.pids[peer])
    url = f"http://127.0.0.1:{PORTS[peer]}{path}"
    out = subprocess.run(urgent(["taskset", "-c", "0", "wrk", "-t1", f"-c{connections}",
                                 f"-d{seconds}s", "--timeout", "10s", "--latency", url]),
                         capture_output=True, text=True, check=True).stdout
    find = lambda pattern: re.search(pattern, out).group(1)
    if "nan" in out:
        sys.exit(f"{peer} answered nothing: {out}")
    errors = re.search(r"Socket errors.*|Non-2xx.*", out)
    if errors:
        print(f"  {peer}: {errors.group(0)}", file=sys.stderr)
    used = cpu_seconds(world.pids[peer]) - before
    count = int(find(r"(\d+) requests in"))
    return {"requests/s": unit(find(r"Requests/sec:\s+(\S+)")),
            "CPU µs/request": used / count * 1e6, "MB/s": unit(find(r"Transfer/sec:\s+(\S+)")) / 1e6,
            "p50 ms": unit(find(r"\n\s+50%\s+(\S+)")), "p99 ms": unit(find(r"\n\s+99%\s+(\S+)"))}


def resident(pid):
    """Resident kilobytes of a process and its children."""
    children = open(f"/proc/{pid}/task/{pid}/children").read().split()
    own = re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())
    name = open(f"/proc/{pid}/comm").read().strip()
    return int(own.group(1)) + (sum(map(resident, children)) if name == "nginx" else 0)


def idle(world, peer, count):
    """Memory that `count` idle keep-alive connections take, each after one request."""
    before, open_ = resident(world.pids[peer]), []
    for _ in range(count):
        stream = socket.create_connection(("127.0.0.1", PORTS[peer]))
        stream.sendall(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n")
        while not stream.recv(4096).endswith(b"xxx"):
            pass
        open_.append(stream)
    time.sleep(4)
    grown = resident(world.pids[peer]) - before
    for stream in open_:
        stream.close()
    return {"idle MB": grown / 1024, "total MB": (before + grown) / 1024}


def table(case, rows):
    """Medians of the rounds, each also as a ratio to nginx's and HAProxy's."""
    medians = {peer: {k: statistics.median(r[k] for r in rows[peer]) for k in rows[peer][0]}
               for peer in PEERS}
    print(f"\n{case}")
    keys = list(medians["nginx"])
    print("| proxy | " + " | ".join(keys) + " |\n|---|" + "---|" * len(keys))
    for peer in PEERS:
        cells = [f"{medians[peer][k]:.2f} ({medians[peer][k] / (medians['nginx'][k] or 1):.2f} × nginx, "
                 f"{medians[peer][k] / (medians['haproxy'][k] or 1):.2f} × HAProxy)" for k in keys]
        print(f"| {peer} | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, "idle", []], metavar="case",
                        help=f"{', '.join([*CASES, 'idle'])}; all unless named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--binary", default=os.environ.get(
        "FORESAIL", f"{ROOT}/target/release/foresail"))
    args = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    cases = args.cases or [*CASES, "idle"]
    for setting in dict.fromkeys((CASES[c][1], CASES[c][3]) if c in CASES else (1, "1")
                                 for c in cases):
        world = World(args.binary, *setting)
        try:
            for case in (c for c in cases if c in CASES and (CASES[c][1], CASES[c][3]) == setting):
                connections, _, path, _ = CASES[case]
                rows = {peer: [] for peer in PEERS}
                for number in range(args.rounds):
                    for peer in PEERS[number % 3:] + PEERS[:number % 3]:
                        rows[peer].append(load(world, peer, connections, path, args.seconds))
                table(f"{case}: {connections} connections, {setting[0]} replica(s)", rows)
            if "idle" in cases and setting == (1, "1"):
                table("idle: 10 000 connections",
                      {peer: [idle(world, peer, 10_000)] for peer in PEERS})
        finally:
            world.stop()


if __name__ == "__main__":
    main()
