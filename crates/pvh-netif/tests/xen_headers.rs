//! Holds the layouts against Xen's own netif.h (Debian's libxen-dev), compiled for both machines.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// What the header is to say: the same for 32- and 64-bit guests.
const ASSERTIONS: &str = r#"
#include <stdint.h>
#include <stddef.h>
#include <xen/xen.h>
#include <xen/io/netif.h>
#define IS(what, value) _Static_assert((what) == (value), #what)
#define AT(type, field, value) IS(__builtin_offsetof(struct type, field), value)
IS(sizeof(((struct netif_tx_sring *)0)->ring[0]), 12);
IS(sizeof(((struct netif_rx_sring *)0)->ring[0]), 8);
AT(netif_tx_sring, ring, 64);
AT(netif_rx_sring, ring, 64);
AT(netif_tx_request, gref, 0);
AT(netif_tx_request, offset, 4);
AT(netif_tx_request, flags, 6);
AT(netif_tx_request, id, 8);
AT(netif_tx_request, size, 10);
IS(sizeof(struct netif_tx_response), 4);
AT(netif_tx_response, id, 0);
AT(netif_tx_response, status, 2);
AT(netif_rx_request, id, 0);
AT(netif_rx_request, gref, 4);
AT(netif_rx_response, id, 0);
AT(netif_rx_response, offset, 2);
AT(netif_rx_response, flags, 4);
AT(netif_rx_response, status, 6);
IS(sizeof(struct netif_extra_info), 8);
AT(netif_extra_info, type, 0);
AT(netif_extra_info, flags, 1);
AT(netif_extra_info, u.gso.size, 2);
AT(netif_extra_info, u.gso.type, 4);
IS(NETTXF_csum_blank, 1);
IS(NETTXF_data_validated, 2);
IS(NETTXF_more_data, 4);
IS(NETTXF_extra_info, 8);
IS(NETRXF_data_validated, 1);
IS(NETRXF_csum_blank, 2);
IS(NETRXF_more_data, 4);
IS(NETRXF_extra_info, 8);
IS(XEN_NETIF_EXTRA_TYPE_GSO, 1);
IS(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 2);
IS(XEN_NETIF_EXTRA_TYPE_MCAST_DEL, 3);
IS(XEN_NETIF_EXTRA_TYPE_HASH, 4);
IS(XEN_NETIF_EXTRA_TYPE_MAX, 5);
IS(XEN_NETIF_EXTRA_FLAG_MORE, 1);
IS(XEN_NETIF_GSO_TYPE_TCPV4, 1);
IS(XEN_NETIF_GSO_TYPE_TCPV6, 2);
IS(NETIF_RSP_DROPPED, -2);
IS(NETIF_RSP_ERROR, -1);
IS(NETIF_RSP_OKAY, 0);
IS(NETIF_RSP_NULL, 1);
IS(XEN_NETIF_NR_SLOTS_MIN, 18);
"#;

#[test]
#[ignore = "needs libxen-dev"]
fn the_literals_of_the_tests_are_those_of_the_header() {
    for machine in ["-m64", "-m32"] {
        let arguments = [machine, "-ffreestanding", "-fsyntax-only", "-xc", "-"];
        let compiler = Command::new("cc")
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn();
        let mut compiler = compiler.unwrap();
        let mut source = compiler.stdin.take().unwrap();
        source.write_all(ASSERTIONS.as_bytes()).unwrap();
        drop(source);
        assert!(compiler.wait().unwrap().success(), "{machine}");
    }
}
