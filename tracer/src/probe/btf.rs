//! Reads BTF, the kernel's type information: offsets of struct members, names of enum values, arguments of functions and
//! tracepoints.
//!
//! BTF is a header, a section of strings and a section of types. Types are numbered from 1 in the order in which they
//! stand; each has a fixed part of 12 bytes and a tail whose length depends on its kind. A module's file continues the
//! numbers and strings of the kernel's. See <https://docs.kernel.org/bpf/btf.html>.
//!
//! [`Btf::parse`] walks the types once and notes where each begins. Every query then searches them by kind and name.
//! Input is untrusted: all reads are bounds-checked, and typedefs and nesting are followed to a depth of 16.
//!
//! Written by hand because aya finds types by name but keeps their members to itself.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

/// Why BTF cannot be read, or a name not found in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The bytes are not BTF of a known layout.
    #[error("malformed BTF: {0}")]
    Malformed(&'static str),
    /// There is no such type.
    #[error("no {0} in this kernel's BTF")]
    NoType(String),
    /// The type has no such member.
    #[error("no member {member} in {of}")]
    NoMember {
        /// The struct searched.
        of: String,
        /// The member asked for.
        member: String,
    },
    /// Several members have the name.
    #[error("member {member} of {of} is ambiguous")]
    Ambiguous {
        /// The struct searched.
        of: String,
        /// The member asked for.
        member: String,
    },
}

const MAGIC: u16 = 0xeb9f;

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Levels of typedefs and of nested anonymous structs that are followed. The kernel has a handful at most.
const DEPTH: u32 = 16;

/// BTF of the kernel (`/sys/kernel/btf/vmlinux`) or of a module (a file beside it), borrowed from the file's bytes.
#[derive(Debug)]
pub struct Btf<'a> {
    /// For a module: the kernel's BTF, whose numbers it continues.
    base: Option<&'a Btf<'a>>,
    strings: &'a [u8],
    types: &'a [u8],
    /// Offset in `types` of each struct by name, filled by the first query for one.
    structs: OnceCell<HashMap<Box<[u8]>, u32>>,
    /// Offset in `types` of each type by its number. Entry 0 is a placeholder: number 0 is `void`.
    index: Vec<u32>,
}

/// The fixed part of a type.
#[derive(Clone, Copy)]
struct Type {
    /// Offset of the name in the strings.
    name: u32,
    /// One of `KIND_…`.
    kind: u32,
    /// Members, values or parameters.
    count: u32,
    /// For a struct: members' offsets also hold the width of bit fields.
    flag: bool,
    /// Size in bytes or number of the referenced type, depending on the kind.
    value: u32,
    /// Offset in `types` of the tail.
    tail: usize,
}

impl<'a> Btf<'a> {
    /// Indexes the types of the kernel.
    ///
    /// # Errors
    ///
    /// [`BtfError::Malformed`] if the bytes are not BTF in this machine's byte order.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let magic = bytes.first_chunk().map(|magic| u16::from_ne_bytes(*magic));
        if magic != Some(MAGIC) {
            return Err(BtfError::Malformed("no BTF magic"));
        }
        let header = |at| u32_at(bytes, at).map(|value| value as usize);
        let section = |offset: Option<usize>, len: Option<usize>| {
            let start = header(4)?.checked_add(offset?)?;
            bytes.get(start..start.checked_add(len?)?)
        };
        let types = section(header(8), header(12)).ok_or(BtfError::Malformed("types out of bounds"))?;
        let strings = section(header(16), header(20)).ok_or(BtfError::Malformed("strings out of bounds"))?;
        let mut btf = Self { base: None, strings, types, structs: OnceCell::new(), index: vec![0] };
        let mut at = 0;
        while at < types.len() {
            btf.index.push(u32::try_from(at).map_err(|_| BtfError::Malformed("more than 4 GiB"))?);
            let ty = btf.read(at).ok_or(BtfError::Malformed("truncated type"))?;
            let tail = tail_size(&ty).ok_or(BtfError::Malformed("unknown kind of type"))?;
            at = ty.tail + tail;
        }
        Ok(btf)
    }

    /// Indexes the types of a module; `base` is the kernel's BTF.
    ///
    /// # Errors
    ///
    /// As for [`Self::parse`].
    pub fn parse_module(bytes: &'a [u8], base: &'a Self) -> Result<Self, BtfError> {
        Ok(Self { base: Some(base), ..Self::parse(bytes)? })
    }

    /// Arguments of those functions that are found: for each argument the name of the struct that it points to, empty if
    /// it does not point to one.
    #[must_use]
    pub fn arguments<'f>(&self, functions: &[&'f str]) -> BTreeMap<&'f str, Vec<String>> {
        let mut found = BTreeMap::new();
        for ty in self.types().filter(|ty| ty.kind == KIND_FUNC) {
            let name = self.name(ty.name);
            let Some(function) = functions.iter().find(|function| function.as_bytes() == name) else {
                continue;
            };
            let Some((of, prototype)) = self.get(ty.value).filter(|(_, ty)| ty.kind == KIND_FUNC_PROTO)
            else {
                continue;
            };
            let arguments = (0..prototype.count as usize).map(|argument| {
                let number = u32_at(of.types, prototype.tail + argument * 8 + 4);
                number.and_then(|number| of.pointee(number)).unwrap_or_default()
            });
            found.entry(*function).or_insert_with(|| arguments.collect());
        }
        found
    }

    /// Name of the struct that a pointer type points to.
    fn pointee(&self, number: u32) -> Option<String> {
        let (of, pointer) = self.resolve(number).filter(|(_, ty)| ty.kind == KIND_PTR)?;
        let (of, pointee) = of.resolve(pointer.value).filter(|(_, ty)| ty.kind == KIND_STRUCT)?;
        Some(String::from_utf8_lossy(of.name(pointee.name)).into_owned())
    }

    /// Offset in bytes of a member, given as `"struct.member"` or, through embedded structs,
    /// `"struct.member.member"`. Members of anonymous structs and unions count as members of the outer struct, as in C.
    ///
    /// # Errors
    ///
    /// If the struct or member does not exist, is ambiguous, or does not begin at a byte.
    pub fn offset(&self, path: &str) -> Result<u32, BtfError> {
        let mut names = path.split('.');
        let of = names.next().unwrap_or_default();
        let mut ty = self.structure(of).ok_or_else(|| BtfError::NoType(format!("struct {of}")))?;
        let mut bits = 0;
        for member in names {
            let mut found = Vec::new();
            self.members_named(&ty, member.as_bytes(), 0, DEPTH, &mut found);
            found.dedup();
            let (offset, next) = match *found.as_slice() {
                [only] => only,
                [] => return Err(BtfError::NoMember { of: of.to_owned(), member: member.to_owned() }),
                _ => return Err(BtfError::Ambiguous { of: of.to_owned(), member: member.to_owned() }),
            };
            bits += offset;
            if let Some((_, next)) = self.resolve(next) {
                ty = next;
            }
        }
        if bits % 8 != 0 {
            return Err(BtfError::NoMember {
                of: of.to_owned(),
                member: format!("{path} on a byte boundary"),
            });
        }
        Ok(bits / 8)
    }

    /// Size in bytes of a struct.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u32> {
        self.structure(name).map(|ty| ty.value)
    }

    /// The first struct of this name.
    fn structure(&self, name: &str) -> Option<Type> {
        let structs = self.structs.get_or_init(|| {
            let mut structs = HashMap::new();
            for at in self.index.iter().skip(1) {
                if let Some(ty) = self.read(*at as usize).filter(|ty| ty.kind == KIND_STRUCT) {
                    structs.entry(self.name(ty.name).into()).or_insert(*at);
                }
            }
            structs
        });
        self.read(*structs.get(name.as_bytes())? as usize)
    }

    /// Names of an enum by value; empty if the kernel has no such enum.
    #[must_use]
    pub fn enum_values(&self, name: &str) -> BTreeMap<u32, String> {
        let Some(ty) = self.types().find(|ty| ty.kind == KIND_ENUM && self.name(ty.name) == name.as_bytes())
        else {
            return BTreeMap::new();
        };
        (0..ty.count as usize)
            .filter_map(|i| {
                let entry = ty.tail + i * 8;
                let name = self.name(u32_at(self.types, entry)?);
                Some((u32_at(self.types, entry + 4)?, String::from_utf8_lossy(name).into_owned()))
            })
            .collect()
    }

    /// Number of arguments of a tracepoint: those of `btf_trace_NAME` without the context. `None` if the kernel has no
    /// such tracepoint.
    #[must_use]
    pub fn tracepoint_arguments(&self, name: &str) -> Option<u32> {
        let name = format!("btf_trace_{name}");
        let typedef =
            self.types().find(|ty| ty.kind == KIND_TYPEDEF && self.name(ty.name) == name.as_bytes())?;
        let (_, pointer) = self.get(typedef.value)?;
        let (_, prototype) = (pointer.kind == KIND_PTR).then(|| self.get(pointer.value))??;
        (prototype.kind == KIND_FUNC_PROTO).then(|| prototype.count.checked_sub(1))?
    }

    /// Collects offset (in bits) and type of all members with a name, also inside anonymous structs and unions.
    fn members_named(&self, ty: &Type, name: &[u8], base: u32, depth: u32, found: &mut Vec<(u32, u32)>) {
        for i in 0..ty.count as usize {
            let member = ty.tail + i * 12;
            let (Some(own), Some(of), Some(offset)) =
                (u32_at(self.types, member), u32_at(self.types, member + 4), u32_at(self.types, member + 8))
            else {
                return;
            };
            // With the flag, the upper byte is the width of a bit field.
            let offset = base.saturating_add(if ty.flag { offset & 0xff_ffff } else { offset });
            let own = self.name(own);
            if own == name {
                found.push((offset, of));
            } else if own.is_empty()
                && depth > 0
                && let Some((_, inner)) = self.resolve(of)
                && matches!(inner.kind, KIND_STRUCT | KIND_UNION)
            {
                self.members_named(&inner, name, offset, depth - 1, found);
            }
        }
    }

    /// Follows typedefs and qualifiers. Returns the type, and the BTF that holds it.
    fn resolve(&self, number: u32) -> Option<(&Self, Type)> {
        let (mut of, mut ty) = self.get(number)?;
        for _ in 0..DEPTH {
            match ty.kind {
                KIND_TYPEDEF..=KIND_RESTRICT | KIND_TYPE_TAG => (of, ty) = of.get(ty.value)?,
                _ => return Some((of, ty)),
            }
        }
        None
    }

    fn types(&self) -> impl Iterator<Item = Type> + '_ {
        self.index.iter().skip(1).filter_map(|at| self.read(*at as usize))
    }

    /// A type by its number, and the BTF that holds it.
    fn get(&self, number: u32) -> Option<(&Self, Type)> {
        let before = self.base.map_or(0, |base| base.index.len() - 1);
        match (number as usize).checked_sub(before) {
            Some(own) if own != 0 => Some((self, self.read(*self.index.get(own)? as usize)?)),
            Some(_) if before == 0 => None,
            _ => self.base?.get(number),
        }
    }

    fn read(&self, at: usize) -> Option<Type> {
        let info = u32_at(self.types, at + 4)?;
        Some(Type {
            name: u32_at(self.types, at)?,
            kind: info >> 24 & 0x1f,
            count: info & 0xffff,
            flag: info >> 31 == 1,
            value: u32_at(self.types, at + 8)?,
            tail: at + 12,
        })
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let before = self.base.map_or(0, |base| base.strings.len());
        let Some(own) = (offset as usize).checked_sub(before) else {
            return self.base.map_or(&[], |base| base.name(offset));
        };
        let rest = self.strings.get(own..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Length of a type's tail in bytes. `None` if the kind is unknown.
fn tail_size(ty: &Type) -> Option<usize> {
    let count = ty.count as usize;
    Some(match ty.kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => count * 12,
        KIND_ENUM | KIND_FUNC_PROTO => count * 8,
        // Pointers, forward declarations, typedefs, qualifiers, functions, floats, type tags.
        KIND_PTR | 7..=12 | 16 | KIND_TYPE_TAG => 0,
        _ => return None,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|value| u32::from_ne_bytes(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds BTF.
    #[derive(Default)]
    struct Builder {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    impl Builder {
        fn new() -> Self {
            Self { strings: vec![0], ..Self::default() }
        }

        fn string(&mut self, text: &str) -> u32 {
            if text.is_empty() {
                return 0;
            }
            let at = self.strings.len();
            self.strings.extend_from_slice(text.as_bytes());
            self.strings.push(0);
            u32::try_from(at).unwrap()
        }

        fn words(&mut self, words: &[u32]) {
            self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        }

        fn add(&mut self, kind: u32, name: &str, count: usize, value: u32, tail: &[u32]) -> u32 {
            let name = self.string(name);
            self.words(&[name, kind << 24 | u32::try_from(count).unwrap(), value]);
            self.words(tail);
            self.count += 1;
            self.count
        }

        fn members(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
            let tail: Vec<u32> =
                members.iter().flat_map(|(name, of, byte)| [self.string(name), *of, byte * 8]).collect();
            self.add(kind, name, members.len(), 64, &tail)
        }

        fn bytes(&self) -> Vec<u8> {
            let types = u32::try_from(self.types.len()).unwrap();
            let strings = u32::try_from(self.strings.len()).unwrap();
            let mut bytes = MAGIC.to_ne_bytes().to_vec();
            bytes.extend([1, 0]);
            bytes.extend([24, 0, types, types, strings].iter().flat_map(|word| word.to_ne_bytes()));
            bytes.extend(&self.types);
            bytes.extend(&self.strings);
            bytes
        }
    }

    fn sample() -> Vec<u8> {
        let mut btf = Builder::new();
        let int = btf.add(KIND_INT, "int", 0, 4, &[32]);
        let net = btf.members(KIND_STRUCT, "", &[("net", int, 0)]);
        let possible_net = btf.add(KIND_TYPEDEF, "possible_net_t", 0, net, &[]);
        let inner = btf.members(KIND_UNION, "", &[("dev", int, 0), ("scratch", int, 0)]);
        let outer = btf.members(KIND_STRUCT, "", &[("next", int, 0), ("", inner, 16)]);
        btf.members(
            KIND_STRUCT,
            "sk_buff",
            &[
                ("", outer, 0),
                ("len", int, 112),
                ("twice", int, 4),
                ("twice", int, 8),
                ("nd_net", possible_net, 40),
            ],
        );
        let names = [btf.string("SKB_NOT_DROPPED_YET"), 0, btf.string("SKB_DROP_REASON_NO_SOCKET"), 3];
        btf.add(KIND_ENUM, "skb_drop_reason", 2, 4, &names);
        let prototype = btf.add(KIND_FUNC_PROTO, "", 4, 0, &[0, int, 0, int, 0, int, 0, int]);
        let pointer = btf.add(KIND_PTR, "", 0, prototype, &[]);
        btf.add(KIND_TYPEDEF, "btf_trace_kfree_skb", 0, pointer, &[]);
        let skb = btf.count - 4;
        let skb = btf.add(KIND_PTR, "", 0, skb, &[]);
        let qualified = btf.add(KIND_RESTRICT - 1, "", 0, skb, &[]);
        let prototype = btf.add(KIND_FUNC_PROTO, "", 2, 0, &[0, int, 0, qualified]);
        btf.add(KIND_FUNC, "br_forward", 0, prototype, &[]);
        btf.bytes()
    }

    #[test]
    fn arguments_are_found_by_what_they_point_to() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        let found = btf.arguments(&["br_forward", "br_flood"]);
        assert_eq!(found["br_forward"], ["", "sk_buff"]);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_modules_types_go_on_where_the_kernels_end() {
        let bytes = sample();
        let base = Btf::parse(&bytes).unwrap();
        let skb = base.types().position(|ty| base.name(ty.name) == b"sk_buff").unwrap() + 1;
        let (types, strings) = (u32::try_from(base.index.len()).unwrap(), base.strings.len());
        // Types and strings of a module are numbered from here on.
        let mut module = Builder { strings: Vec::new(), ..Builder::default() };
        module.words(&[0, KIND_PTR << 24, u32::try_from(skb).unwrap()]);
        module.words(&[0, KIND_FUNC_PROTO << 24 | 1, 0, 0, types]);
        let name = u32::try_from(strings).unwrap();
        module.strings.extend_from_slice(b"vxlan_rcv\0");
        module.words(&[name, KIND_FUNC << 24, types + 1]);
        let bytes = module.bytes();
        let module = Btf::parse_module(&bytes, &base).unwrap();
        assert_eq!(module.arguments(&["vxlan_rcv"])["vxlan_rcv"], ["sk_buff"]);
    }

    #[test]
    fn members_are_found_through_anonymous_and_embedded_structs() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("sk_buff.len"), Ok(112));
        assert_eq!(btf.offset("sk_buff.dev"), Ok(16));
        assert_eq!(btf.offset("sk_buff.nd_net.net"), Ok(40));
    }

    #[test]
    fn missing_and_ambiguous_names_are_refused() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert!(matches!(btf.offset("sk_buff.head"), Err(BtfError::NoMember { .. })));
        assert!(matches!(btf.offset("sk_buff.twice"), Err(BtfError::Ambiguous { .. })));
        assert!(matches!(btf.offset("sock.len"), Err(BtfError::NoType(_))));
    }

    #[test]
    fn enums_and_tracepoints_are_read() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.enum_values("skb_drop_reason")[&3], "SKB_DROP_REASON_NO_SOCKET");
        assert_eq!(btf.tracepoint_arguments("kfree_skb"), Some(3));
        assert_eq!(btf.tracepoint_arguments("consume_skb"), None);
    }

    #[test]
    fn no_cut_and_no_flipped_byte_panics() {
        let whole = sample();
        for cut in 0..whole.len() {
            if let Ok(btf) = Btf::parse(&whole[..cut]) {
                let _ = btf.offset("sk_buff.dev");
            }
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok(btf) = Btf::parse(&bytes) {
                    let _ = btf.offset("sk_buff.nd_net.net");
                    let _ = btf.enum_values("skb_drop_reason");
                    let _ = btf.tracepoint_arguments("kfree_skb");
                    let _ = btf.arguments(&["br_forward"]);
                }
            }
        }
    }
}
