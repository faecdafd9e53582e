//! Plugins that are not in CoreDNS's own list and are met in Corefiles, for builds of it with more
//! in them.

use super::{Elsewhere, elsewhere};

/// What to do about a source of names that only such a build can read.
const BESIDE: &str = "keep the server that has it for its zone, and write: forward {zone} ADDRESS";
/// About what only looks on, or has no use here.
const REMOVE: &str = "remove the line";

/// In alphabetical order.
pub(super) const EXTERNAL: &[Elsewhere] = &[
    elsewhere(
        "ads",
        "it blocks the names of lists",
        "write the list as a hosts file with the address 0.0.0.0, and use: hosts FILE { fallthrough }",
    ),
    elsewhere(
        "alias",
        "it replaces an alias at a zone's top by its addresses",
        "remove the line, and give the zone's top its addresses",
    ),
    elsewhere(
        "alternate",
        "it asks others after an answer of some code",
        "write two 'forward' lines one below the other, the first with: next NXDOMAIN",
    ),
    elsewhere("amazondns", "it asks Amazon's name servers", BESIDE),
    elsewhere(
        "blocklist",
        "it blocks the names of lists",
        "write the list as a hosts file with the address 0.0.0.0, and use: hosts FILE { fallthrough }",
    ),
    elsewhere(
        "consul",
        "it asks Consul",
        "Consul has its own DNS: forward consul ADDRESS:8600",
    ),
    elsewhere("demo", "it is an example of a plugin", REMOVE),
    elsewhere("docker", "it names Docker's containers", BESIDE),
    elsewhere("dump", "it prints each query", "use: log"),
    elsewhere("dynapi", "it takes records over HTTP", BESIDE),
    elsewhere("ebpf", "it loads a program into the kernel", REMOVE),
    elsewhere("ens", "it reads the Ethereum Name Service", BESIDE),
    elsewhere("example", "it is an example of a plugin", REMOVE),
    elsewhere(
        "fallback",
        "it asks others after an answer of some code",
        "write two 'forward' lines one below the other, the first with: next NXDOMAIN",
    ),
    elsewhere(
        "fanout",
        "it asks several servers at once",
        "forward asks the next server while one is slow: forward {arguments}",
    ),
    elsewhere(
        "filter",
        "it blocks the names of lists",
        "write the list as a hosts file with the address 0.0.0.0, and use: hosts FILE { fallthrough }",
    ),
    elsewhere(
        "finalize",
        "it leaves only addresses of an alias",
        "remove the line: clients follow aliases that come with their addresses",
    ),
    elsewhere(
        "gathersrv",
        "it joins the SRV records of several domains",
        BESIDE,
    ),
    elsewhere(
        "git",
        "it fetches files from a repository",
        "fetch them by a container beside this one (git-sync), and serve them by 'auto' or 'import'",
    ),
    elsewhere(
        "gravwell",
        "it sends queries to Gravwell",
        "use 'dnstap' or 'log'",
    ),
    elsewhere("gslb", "it shares out load between places", BESIDE),
    elsewhere("handshake", "it reads the Handshake names", BESIDE),
    elsewhere("idetcd", "it names nodes through etcd", BESIDE),
    elsewhere(
        "ipecho",
        "it answers the address that a name holds",
        "use 'template' with a 'match' of the address in the name",
    ),
    elsewhere(
        "ipin",
        "it answers the address that a name holds",
        "use 'template' with a 'match' of the address in the name",
    ),
    elsewhere("json", "it asks a server over HTTP for JSON", BESIDE),
    elsewhere(
        "k8s_cache",
        "it refreshes a cache for some pods",
        "use: cache 30 { prefetch 10 }",
    ),
    elsewhere(
        "k8s_crd",
        "it names what k8gb's own objects say",
        "keep k8gb's server for its zone, and write: forward {zone} ADDRESS",
    ),
    elsewhere(
        "k8s_dns_chaos",
        "it breaks answers for tests",
        "use 'erratic', or remove the line",
    ),
    elsewhere("k8s_event", "it reports to the cluster's events", REMOVE),
    elsewhere(
        "k8s_gateway",
        "it names Ingresses and Gateways by their hosts",
        "keep its own Deployment, and write: forward {zone} ADDRESS\n\
         Services of type LoadBalancer are answered here by: k8s_external {zone}",
    ),
    elsewhere(
        "k8szoneaware",
        "it is a private plugin, about topology zones",
        "nearest is the option 'zonal' of 'kubernetes'; else remove the line",
    ),
    elsewhere(
        "kubeforward",
        "it forwards to the pods of a Service",
        "use: forward {zone:.} ADDRESS-OF-THE-SERVICE",
    ),
    elsewhere(
        "kubenodes",
        "it names the cluster's nodes",
        "list the nodes in a hosts file, or keep the server that has it: forward {zone} ADDRESS",
    ),
    elsewhere(
        "kubernetai",
        "it serves several clusters in one block",
        "write a server block for each cluster, each with: kubernetes {zone:ZONE} { kubeconfig FILE CONTEXT }",
    ),
    elsewhere(
        "lighthouse",
        "it names the Services of joined clusters (Submariner)",
        "Lighthouse has its own server: forward {zone:clusterset.local} ADDRESS-OF-SUBMARINER-LIGHTHOUSE-COREDNS",
    ),
    elsewhere(
        "mdns",
        "it asks the local network over multicast",
        "list the hosts in a file: hosts FILE {zone} { fallthrough }",
    ),
    elsewhere("meship", "it reads .meship names", BESIDE),
    elsewhere("meshname", "it reads .meshname names", BESIDE),
    elsewhere(
        "multicluster",
        "here it is an option of 'kubernetes'",
        "write: kubernetes cluster.local {zone:clusterset.local} { multicluster {zone:clusterset.local} }",
    ),
    elsewhere("mysql", "it reads zones from a database", BESIDE),
    elsewhere("netbox", "it reads addresses from NetBox", BESIDE),
    elsewhere(
        "opa",
        "it asks Open Policy Agent",
        "use 'acl', or remove the line",
    ),
    elsewhere(
        "pdsql",
        "it reads PowerDNS's database",
        "forward to PowerDNS itself: forward {zone} ADDRESS",
    ),
    elsewhere(
        "records",
        "it has records in the Corefile",
        "write the records as a zone file: file FILE {zone}; addresses alone may stand in 'hosts'",
    ),
    elsewhere(
        "recursor",
        "it resolves by rules of its own",
        "use 'forward' for the servers and 'hosts' for the addresses",
    ),
    elsewhere("redis", "it reads zones from Redis", BESIDE),
    elsewhere("redis_cache", "it keeps answers in Redis", "use: cache 30"),
    elsewhere("redisc", "it keeps answers in Redis", "use: cache 30"),
    elsewhere(
        "rrl",
        "it limits the rate of replies",
        "remove the line; 'acl' says who may ask at all",
    ),
    elsewhere(
        "tailscale",
        "it names the machines of a tailnet",
        "Tailscale has its own resolver: forward {zone} 100.100.100.100",
    ),
    elsewhere("traefik", "it names Traefik's hosts", BESIDE),
    elsewhere(
        "unbound",
        "it looks names up from the root by itself",
        "run Unbound beside this server, and write: forward {zone:.} 127.0.0.1:5335",
    ),
    elsewhere(
        "vcluster",
        "it is of vCluster's own build",
        "keep vCluster's server in virtual clusters; Lodestone serves real ones",
    ),
    elsewhere(
        "warnlist",
        "it warns of names on a list",
        "use 'log' with the names, or 'dnstap'",
    ),
    elsewhere("wgsd", "it names WireGuard's peers", BESIDE),
];
