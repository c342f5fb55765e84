//! One network of xl (xl-network-configuration(5)) as a value of `--net`.

use super::super::ConfigFault;

/// A value of `--net`, and what is said about it.
pub(super) struct Vif {
    pub(super) value: String,
    pub(super) note: Option<String>,
}

/// Translates the parts of a vif. One that names its interface is connected to the tap of that name;
/// any other one to passt, which needs no rights.
pub(super) fn option(text: &str) -> Result<Vif, ConfigFault> {
    let (mut mac, mut tap, mut others) = (None, None, Vec::new());
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        match part.split_once('=') {
            Some(("mac", address)) => mac = Some(address),
            Some(("vifname", name)) => tap = Some(name),
            // What kind of device it is: a PVH guest has a PV one only.
            Some(("type" | "model", "vif" | "netfront")) => {}
            Some((key, _)) if KEYS.contains(&key) => others.push(key),
            _ => {
                let what =
                    format!("'{part}' is no part of a vif; xl-network-configuration(5) lists them");
                return Err(ConfigFault::Syntax { what });
            }
        }
    }
    let mut value = match tap {
        Some(tap) => format!("tap={}", tap.replace(',', ",,")),
        None => "passt".to_owned(),
    };
    if let Some(mac) = mac {
        value.push_str(",mac=");
        value.push_str(mac);
    }
    Ok(Vif {
        value,
        note: note(tap, &others),
    })
}

fn note(tap: Option<&str>, others: &[&str]) -> Option<String> {
    let others = others.join(", ");
    match (tap, others.is_empty()) {
        (Some(_), true) => None,
        (Some(tap), false) => Some(format!(
            "a vif's {others} is not used: {tap} is taken as it is"
        )),
        (None, true) => Some(PASST.to_owned()),
        (None, false) => Some(format!("a vif's {others} is not used; {PASST}")),
    }
}

const PASST: &str = "the network is passt's; vifname=NAME connects it to the tap NAME";

/// Other parts that xl knows.
const KEYS: [&str; 13] = [
    "accel",
    "backend",
    "bridge",
    "devid",
    "gatewaydev",
    "ip",
    "model",
    "mtu",
    "rate",
    "script",
    "trusted",
    "type",
    "vlan",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_interface_is_a_tap_and_any_other_is_passt() {
        for (text, value, note) in [
            ("", "passt", PASST),
            (
                "bridge=xenbr0",
                "passt",
                "a vif's bridge is not used; the network is passt's",
            ),
            (
                "mac=02:00:00:00:00:01 , vifname=tap0",
                "tap=tap0,mac=02:00:00:00:00:01",
                "",
            ),
            (
                "vifname=t,bridge=b,script=s",
                "tap=t",
                "a vif's bridge, script is not used: t is taken",
            ),
            ("type=vif,vifname=t", "tap=t", ""),
        ] {
            let vif = option(text).unwrap();
            assert_eq!(vif.value, value, "{text}");
            let told = vif.note.unwrap_or_default();
            assert!(told.starts_with(note), "{text}: {told}");
            assert_eq!(told.is_empty(), note.is_empty(), "{text}: {told}");
        }
        assert!(option("nonsense").is_err());
        assert!(option("brdige=x").is_err());
    }
}
