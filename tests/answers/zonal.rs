//! `zonal`: endpoints by topology zone.

use lodestone::{cluster::Object, zone::AnswerRules};

use crate::{
    dialogue::{Server, Setting},
    fixture,
};

fn objects() -> Vec<Object> {
    let web = ["http/TCP/80"];
    let mut objects = fixture::cluster();
    objects.extend([
        fixture::headless("testns", "spread", &web),
        fixture::slice(
            "testns",
            "spread",
            "spread-a",
            &web,
            &[
                "172.5.0.1 zone=east-1",
                "172.5.0.2 zone=East-1",
                "172.5.0.3 zone=west.two hostname=w",
                "172.5.0.4",
                "172.5.0.5 zone=north unready",
            ],
        ),
    ]);
    objects
}

fn server(zonal: bool) -> Server {
    let rules = AnswerRules {
        zonal,
        ..AnswerRules::default()
    };
    Setting {
        rules,
        ..Setting::default()
    }
    .serve(objects())
}

#[test]
fn pin_has_the_endpoints_of_the_zone_only() {
    server(true).check(
        "
        ? EAST-1.pin._zone.spread.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        EAST-1.pin._zone.spread.testns.svc.cluster.local. 5 IN A 172.5.0.1
        EAST-1.pin._zone.spread.testns.svc.cluster.local. 5 IN A 172.5.0.2
        ? west.two.pin._zone.spread.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        west.two.pin._zone.spread.testns.svc.cluster.local. 5 IN A 172.5.0.3
        ? east-1.pin._zone.spread.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        east-1.pin._zone.spread.testns.svc.cluster.local. 5 IN SRV 0 50 80 172-5-0-1.spread.testns.svc.cluster.local.
        east-1.pin._zone.spread.testns.svc.cluster.local. 5 IN SRV 0 50 80 172-5-0-2.spread.testns.svc.cluster.local.
        + 172-5-0-1.spread.testns.svc.cluster.local. 5 IN A 172.5.0.1
        + 172-5-0-2.spread.testns.svc.cluster.local. 5 IN A 172.5.0.2
        ? east-1.pin._zone.spread.testns.svc.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? east-1.pin._zone.spread.testns.svc.cluster.local. TXT
        NODATA ClusterNoData, cluster.local.
        ? north.pin._zone.spread.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? two.pin._zone.spread.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? x.west.two.pin._zone.spread.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? any.pin._zone.down.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ",
    );
}

#[test]
fn prefer_falls_back_to_all_endpoints() {
    server(true).check(
        "
        ? west.two.prefer._zone.spread.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        west.two.prefer._zone.spread.testns.svc.cluster.local. 5 IN SRV 0 100 80 w.spread.testns.svc.cluster.local.
        + w.spread.testns.svc.cluster.local. 5 IN A 172.5.0.3
        ? north.prefer._zone.spread.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        north.prefer._zone.spread.testns.svc.cluster.local. 5 IN A 172.5.0.1
        north.prefer._zone.spread.testns.svc.cluster.local. 5 IN A 172.5.0.2
        north.prefer._zone.spread.testns.svc.cluster.local. 5 IN A 172.5.0.3
        north.prefer._zone.spread.testns.svc.cluster.local. 5 IN A 172.5.0.4
        ? any.prefer._zone.down.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ",
    );
}

#[test]
fn empty_non_terminals_above_zones_exist() {
    server(true).check(
        "
        ? _zone.spread.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? pin._zone.spread.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? east-1._zone.spread.testns.svc.cluster.local. A
        NXDOMAIN NoSuchPort, cluster.local.
        ? east-1.near._zone.spread.testns.svc.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? east-1.pin.zone.spread.testns.svc.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? east-1.pin._zone.svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? pin._zone.svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? east-1.pin._zone.outside.testns.svc.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? east-1.pin._zone.none.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? east-1.pin._zone.spread.testns.pod.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ",
    );
}

#[test]
fn zonal_names_do_not_exist_without_the_option() {
    server(false).check(
        "
        ? east-1.pin._zone.spread.testns.svc.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? pin._zone.spread.testns.svc.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? _zone.spread.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ",
    );
}
