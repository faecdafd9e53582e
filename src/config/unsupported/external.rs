//! External plugins: not part of CoreDNS, but found in Corefiles of custom builds.

use super::{UnsupportedDirective, unsupported};

/// For a source of names that only such a build can read.
const BESIDE: &str = "keep the server that has it for its zone, and write: forward {zone} ADDRESS";
/// For plugins that only observe queries, or have no use here.
const REMOVE: &str = "remove the line";

/// In alphabetical order.
pub(super) const EXTERNAL: &[UnsupportedDirective] = &[
    unsupported(
        "ads",
        "it blocks the names of lists",
        "write the list as a hosts file with the address 0.0.0.0, and use: hosts FILE { fallthrough }",
    ),
    unsupported(
        "alias",
        "it replaces an alias at a zone's apex by its addresses",
        "remove the line, and give the zone's apex its addresses",
    ),
    unsupported(
        "alternate",
        "it forwards to another upstream after some response codes",
        "write two 'forward' lines one below the other, the first with: next NXDOMAIN",
    ),
    unsupported("amazondns", "it forwards to Amazon's name servers", BESIDE),
    unsupported(
        "blocklist",
        "it blocks the names of lists",
        "write the list as a hosts file with the address 0.0.0.0, and use: hosts FILE { fallthrough }",
    ),
    unsupported(
        "consul",
        "it queries Consul",
        "Consul has its own DNS: forward consul ADDRESS:8600",
    ),
    unsupported("demo", "it is an example of a plugin", REMOVE),
    unsupported("docker", "it serves names of Docker's containers", BESIDE),
    unsupported("dump", "it prints each query", "use: log"),
    unsupported("dynapi", "it takes records over HTTP", BESIDE),
    unsupported("ebpf", "it loads a program into the kernel", REMOVE),
    unsupported("ens", "it reads the Ethereum Name Service", BESIDE),
    unsupported("example", "it is an example of a plugin", REMOVE),
    unsupported(
        "fallback",
        "it forwards to another upstream after some response codes",
        "write two 'forward' lines one below the other, the first with: next NXDOMAIN",
    ),
    unsupported(
        "fanout",
        "it queries several upstreams in parallel",
        "forward queries the next upstream while one is slow: forward {arguments}",
    ),
    unsupported(
        "filter",
        "it blocks the names of lists",
        "write the list as a hosts file with the address 0.0.0.0, and use: hosts FILE { fallthrough }",
    ),
    unsupported(
        "finalize",
        "it replaces an alias by its addresses",
        "remove the line: clients follow aliases that come with their addresses",
    ),
    unsupported(
        "gathersrv",
        "it joins the SRV records of several domains",
        BESIDE,
    ),
    unsupported(
        "git",
        "it fetches files from a repository",
        "fetch them by a container beside this one (git-sync), and serve them by 'auto' or 'import'",
    ),
    unsupported(
        "gravwell",
        "it sends queries to Gravwell",
        "use 'dnstap' or 'log'",
    ),
    unsupported("gslb", "it balances load between locations", BESIDE),
    unsupported("handshake", "it reads the Handshake names", BESIDE),
    unsupported("idetcd", "it names nodes through etcd", BESIDE),
    unsupported(
        "ipecho",
        "it answers with the address in a name",
        "use 'template' with a 'match' of the address in the name",
    ),
    unsupported(
        "ipin",
        "it answers with the address in a name",
        "use 'template' with a 'match' of the address in the name",
    ),
    unsupported("json", "it queries a server over HTTP for JSON", BESIDE),
    unsupported(
        "k8s_cache",
        "it refreshes a cache for some pods",
        "use: cache 30 { prefetch 10 }",
    ),
    unsupported(
        "k8s_crd",
        "it serves names from k8gb's own objects",
        "keep k8gb's server for its zone, and write: forward {zone} ADDRESS",
    ),
    unsupported(
        "k8s_dns_chaos",
        "it breaks answers for tests",
        "use 'erratic', or remove the line",
    ),
    unsupported("k8s_event", "it reports to the cluster's events", REMOVE),
    unsupported(
        "k8s_gateway",
        "it serves the host names of Ingresses and Gateways",
        "keep its own Deployment, and write: forward {zone} ADDRESS\n\
         Services of type LoadBalancer are answered here by: k8s_external {zone}",
    ),
    unsupported(
        "k8szoneaware",
        "it is a private plugin, about topology zones",
        "nearest is the option 'zonal' of 'kubernetes'; else remove the line",
    ),
    unsupported(
        "kubeforward",
        "it forwards to the pods of a Service",
        "use: forward {zone:.} ADDRESS-OF-THE-SERVICE",
    ),
    unsupported(
        "kubenodes",
        "it names the cluster's nodes",
        "list the nodes in a hosts file, or keep the server that has it: forward {zone} ADDRESS",
    ),
    unsupported(
        "kubernetai",
        "it serves several clusters in one block",
        "write a server block for each cluster, each with: kubernetes {zone:ZONE} { kubeconfig FILE CONTEXT }",
    ),
    unsupported(
        "lighthouse",
        "it names the Services of joined clusters (Submariner)",
        "Lighthouse has its own server: forward {zone:clusterset.local} ADDRESS-OF-SUBMARINER-LIGHTHOUSE-COREDNS",
    ),
    unsupported(
        "mdns",
        "it queries the local network over multicast",
        "list the hosts in a file: hosts FILE {zone} { fallthrough }",
    ),
    unsupported("meship", "it reads .meship names", BESIDE),
    unsupported("meshname", "it reads .meshname names", BESIDE),
    unsupported(
        "multicluster",
        "here it is an option of 'kubernetes'",
        "write: kubernetes cluster.local {zone:clusterset.local} { multicluster {zone:clusterset.local} }",
    ),
    unsupported("mysql", "it reads zones from a database", BESIDE),
    unsupported("netbox", "it reads addresses from NetBox", BESIDE),
    unsupported(
        "opa",
        "it queries Open Policy Agent",
        "use 'acl', or remove the line",
    ),
    unsupported(
        "pdsql",
        "it reads PowerDNS's database",
        "forward to PowerDNS itself: forward {zone} ADDRESS",
    ),
    unsupported(
        "records",
        "it has records in the Corefile",
        "write the records as a zone file: file FILE {zone}; for addresses only, use 'hosts'",
    ),
    unsupported(
        "recursor",
        "it resolves by rules of its own",
        "use 'forward' for the servers and 'hosts' for the addresses",
    ),
    unsupported("redis", "it reads zones from Redis", BESIDE),
    unsupported("redis_cache", "it keeps answers in Redis", "use: cache 30"),
    unsupported("redisc", "it keeps answers in Redis", "use: cache 30"),
    unsupported(
        "rrl",
        "it limits the rate of replies",
        "remove the line; 'acl' restricts the clients",
    ),
    unsupported(
        "tailscale",
        "it names the machines of a tailnet",
        "Tailscale has its own resolver: forward {zone} 100.100.100.100",
    ),
    unsupported("traefik", "it names Traefik's hosts", BESIDE),
    unsupported(
        "unbound",
        "it resolves names from the root",
        "run Unbound beside this server, and write: forward {zone:.} 127.0.0.1:5335",
    ),
    unsupported(
        "vcluster",
        "it is part of vCluster's own build",
        "keep vCluster's server in virtual clusters; Lodestone serves real ones",
    ),
    unsupported(
        "warnlist",
        "it warns of names on a list",
        "use 'log' with the names, or 'dnstap'",
    ),
    unsupported("wgsd", "it names WireGuard's peers", BESIDE),
];
