//! The cluster that the tests ask about.

use tempfile::TempDir;

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: payroll}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Service
metadata: {name: web-service, namespace: payroll}
spec:
  clusterIP: 10.96.42.10
  ports: [{name: http, port: 80}, {name: metrics, port: 9090}]
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: default}
spec: {clusterIP: 10.96.42.11, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432}]
endpoints:
- {addresses: [10.244.1.5], hostname: db-0, conditions: {ready: true}}
- {addresses: [10.244.1.6], hostname: db-1, conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: starting, namespace: shop}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: starting-1, namespace: shop, labels: {kubernetes.io/service-name: starting}}
addressType: IPv4
ports: [{name: sql, port: 5432}]
endpoints:
- {addresses: [10.244.2.5], conditions: {ready: false}}
- {addresses: [10.244.2.6], conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: partner, namespace: shop}
spec: {type: ExternalName, externalName: api.example.com}
---
apiVersion: v1
kind: Service
metadata: {name: inside, namespace: shop}
spec: {type: ExternalName, externalName: web.payroll.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: ring, namespace: shop}
spec: {type: ExternalName, externalName: circle.payroll.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: circle, namespace: payroll}
spec: {type: ExternalName, externalName: ring.shop.svc.cluster.local}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: shop}
status: {phase: Running, podIP: 10.244.1.5}
";

/// A pod of the namespace `payroll` at the address of the tests' client.
pub fn client(host_network: bool) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: client, namespace: payroll}}
spec: {{hostNetwork: {host_network}}}
status: {{phase: Running, podIP: 127.0.0.1}}
"
    )
}

/// The directory with the manifests.
pub fn manifests() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("objects.yaml"), OBJECTS).unwrap();
    directory
}
