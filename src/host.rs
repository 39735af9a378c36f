//! Which machine this is, so that a ledger notices that another one wrote it last.

use sha2::{Digest, Sha256};

use crate::domain::message_key::hex;

/// A machine, as far as it has an identity that outlives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// 8 hex digits, derived from `/etc/machine-id`, which itself is not to be shown.
    pub id: String,
    /// For people; in a container it changes with each start, so that nothing is concluded from it.
    pub name: String,
}

impl Host {
    /// This machine; `None` without a machine id, as in most containers.
    pub fn this() -> Option<Host> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Host::of(&std::fs::read_to_string("/etc/machine-id").ok()?, name.trim())
    }

    /// The machine with this machine-id(5).
    fn of(machine_id: &str, name: &str) -> Option<Host> {
        let machine_id = machine_id.trim();
        let sound = machine_id.len() == 32 && machine_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digest = Sha256::digest(format!("mailonce {machine_id}").as_bytes());
        sound.then(|| Host { id: hex(&digest[..4]), name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::Host;

    #[test]
    fn only_a_machine_id_makes_a_host() {
        let one = Host::of("0123456789abcdef0123456789abcdef\n", "shop").unwrap();
        assert_eq!((one.id.len(), one.name.as_str()), (8, "shop"));
        assert_ne!(Host::of("1123456789abcdef0123456789abcdef", "shop").unwrap().id, one.id);
        for none in ["", "uninitialized\n", "0123456789abcdef"] {
            assert_eq!(Host::of(none, "3f2a9c41d7e0"), None);
        }
    }
}
