//! The grammar of RFC 8259 over the structural characters of a line.
//!
//! simd-json's first stage has found every structural character outside strings, the opening quote
//! of every string, and the first character of every other run of non-white space; it has checked
//! that the bytes are UTF-8, that strings end, and that they hold no control characters. What is
//! left is checked here: the order of these *tokens*, and whether literals and numbers are right.
//!
//! The shape of an event can't be foreseen, and a wrong guess of the processor costs more than all
//! else that is done for a token. So the order is not checked by walking from token to token: 64 of
//! them at a time are turned into masks, one bit a token, and every rule is a few operations on
//! these. Only brackets are looked at one by one, because they nest. On the way it is noted where each
//! object and array ends, so that a reader can step over a value.

use super::MAX_DEPTH;
use super::masks::{GROUP, Masks};
use super::scalar::is_scalar;

// What a token is: one bit each. A closing bracket is its opening one, two bits up.
const STRING: u8 = 1;
const SCALAR: u8 = 1 << 1;
const OPEN_OBJECT: u8 = 1 << 2;
const OPEN_ARRAY: u8 = 1 << 3;
const CLOSE_OBJECT: u8 = 1 << 4;
const CLOSE_ARRAY: u8 = 1 << 5;
const COMMA: u8 = 1 << 6;
const COLON: u8 = 1 << 7;
const OTHER: u8 = 0;

static KINDS: [u8; 256] = kinds();

const fn kinds() -> [u8; 256] {
    let mut kinds = [OTHER; 256];
    kinds[b'"' as usize] = STRING;
    kinds[b'{' as usize] = OPEN_OBJECT;
    kinds[b'[' as usize] = OPEN_ARRAY;
    kinds[b'}' as usize] = CLOSE_OBJECT;
    kinds[b']' as usize] = CLOSE_ARRAY;
    kinds[b',' as usize] = COMMA;
    kinds[b':' as usize] = COLON;
    let scalars = b"-0123456789tfn";
    let mut at = 0;
    while at < scalars.len() {
        kinds[scalars[at] as usize] = SCALAR;
        at += 1;
    }
    kinds
}

/// What is noted about the tokens of a line; reused from line to line.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What each token is, and [`OTHER`] behind the last one up to a whole group.
    kinds: Vec<u8>,
    /// For each token that opens an object or array, the token that closes it.
    ends: Vec<u32>,
}

impl Notes {
    /// Whether `tokens`, the offsets of the structural characters of `line`, are one valid object of
    /// a depth within the limit.
    #[inline]
    pub(super) fn is_one_object(&mut self, line: &[u8], tokens: &[u32]) -> bool {
        let groups = tokens.len().div_ceil(GROUP);
        self.classify(line, tokens, groups);
        let (kinds, _) = self.kinds[..groups * GROUP].as_chunks::<GROUP>();
        let mut brackets = Brackets::new(&mut self.ends);
        let mut order = Order::default();
        for (group, kinds) in kinds.iter().enumerate() {
            let first = group * GROUP;
            let masks = Masks::of(kinds);
            let in_object = brackets.walk(first, kinds, masks.brackets());
            let inside = u64::MAX >> GROUP.saturating_sub(tokens.len() - first).min(GROUP - 1);
            if order.errors(&masks, in_object) & inside != 0 {
                return false;
            }
            let mut scalars = masks.scalar;
            while scalars != 0 {
                let token = first + scalars.trailing_zeros() as usize;
                if !is_scalar(line, tokens, token) {
                    return false;
                }
                scalars &= scalars - 1;
            }
        }
        brackets.are_one_pair_around_all(tokens.len()) && self.kinds[0] == OPEN_OBJECT
    }

    fn classify(&mut self, line: &[u8], tokens: &[u32], groups: usize) {
        let count = tokens.len();
        if self.kinds.len() < groups * GROUP {
            self.kinds.resize(groups * 2 * GROUP, OTHER);
            self.ends.resize(groups * 2 * GROUP, 0);
        }
        // Eight at a time: the loop costs as much as what is done in it.
        let (eights, rest) = tokens.as_chunks::<8>();
        let (kinds, last) = self.kinds.split_at_mut(eights.len() * 8);
        for (kinds, positions) in kinds.as_chunks_mut::<8>().0.iter_mut().zip(eights) {
            for (kind, &position) in kinds.iter_mut().zip(positions) {
                *kind = KINDS[usize::from(line[position as usize])];
            }
        }
        for (kind, &position) in last.iter_mut().zip(rest) {
            *kind = KINDS[usize::from(line[position as usize])];
        }
        self.kinds[count..groups * GROUP].fill(OTHER);
    }

    /// The keys of the object that opens at `token`, which must be part of the last line found valid.
    #[inline]
    pub(super) fn keys(&self, token: u32) -> KeyTokens {
        let end = self.ends.get(token as usize).copied().unwrap_or_default();
        KeyTokens { next: token + 1, end }
    }

    /// The last token of the value at `token`.
    #[inline]
    fn value_end(&self, token: u32) -> u32 {
        let kind = self.kinds.get(token as usize).copied().unwrap_or_default();
        let end = self.ends.get(token as usize).copied().unwrap_or(u32::MAX);
        if kind & (OPEN_OBJECT | OPEN_ARRAY) != 0 { end } else { token }
    }

    /// Whether the value at `token` is an object.
    #[inline]
    pub(super) fn is_object(&self, token: u32) -> bool {
        self.kinds.get(token as usize) == Some(&OPEN_OBJECT)
    }
}

/// Walks over the keys of an object, not into their values. The token of a key is its opening quote;
/// the next one is the colon, the one after that its value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyTokens {
    next: u32,
    end: u32,
}

impl KeyTokens {
    /// The next key.
    #[inline]
    pub(super) fn next(&mut self, notes: &Notes) -> Option<u32> {
        let key = self.next;
        if key >= self.end {
            return None;
        }
        // Behind the value stands a comma, or the closing bracket.
        self.next = notes.value_end(key + 2).saturating_add(2);
        Some(key)
    }
}

/// `objects` has a bit for each.
const _: () = assert!(MAX_DEPTH == u64::BITS);

/// Which bracket closes which.
struct Brackets<'a> {
    ends: &'a mut [u32],
    /// The tokens of the open brackets.
    open: [u32; MAX_DEPTH as usize],
    depth: u32,
    /// One bit per open bracket, the innermost lowest: 1 for an object. As many as may be open.
    objects: u64,
    /// 1 once one was closed by one of another kind.
    mismatch: u64,
}

impl<'a> Brackets<'a> {
    fn new(ends: &'a mut [u32]) -> Self {
        let open = [0; MAX_DEPTH as usize];
        Self { ends, open, depth: 0, objects: 0, mismatch: 0 }
    }

    /// Goes through the brackets of a group, which begins at token `first`. Returns for each of its
    /// tokens whether an object is the innermost that is open behind it.
    #[inline]
    fn walk(&mut self, first: usize, kinds: &[u8; GROUP], mut brackets: u64) -> u64 {
        let before = self.objects & 1;
        let mut changes = 0;
        while brackets != 0 {
            let bit = brackets.trailing_zeros();
            brackets &= brackets - 1;
            let object = self.objects & 1;
            self.bracket(first as u32 + bit, kinds[bit as usize]);
            changes |= (object ^ self.objects & 1) << bit;
        }
        // What changes at a token stays so behind it.
        for shift in [1, 2, 4, 8, 16, 32] {
            changes ^= changes << shift;
        }
        changes ^ before.wrapping_neg()
    }

    /// Opens or closes, without a branch on which.
    #[inline]
    fn bracket(&mut self, token: u32, kind: u8) {
        let closes = u32::from(kind >> 4 & 1 | kind >> 5 & 1);
        let opens = 1 - closes;
        let level = self.depth.wrapping_sub(closes);
        let open = &mut self.open[(level % MAX_DEPTH) as usize];
        let opened = if closes == 1 { *open } else { token };
        *open = opened;
        if let Some(end) = self.ends.get_mut(opened as usize) {
            *end = token;
        }
        self.depth = level.wrapping_add(opens);
        let closes_object = u64::from(kind >> 4 & 1);
        self.mismatch |= u64::from(closes) & (self.objects ^ closes_object);
        self.objects = self.objects << opens >> closes | u64::from(kind >> 2 & 1);
    }

    /// Whether they nest, and the first and the last token are a pair.
    fn are_one_pair_around_all(&self, count: usize) -> bool {
        // One too deep has pushed the outermost object out of `objects`, whose end then does not match;
        // one that closes nothing has made the depth wrap around.
        self.mismatch == 0 && self.depth == 0 && count > 0 && self.ends[0] as usize == count - 1
    }
}

/// What the tokens of a group mean for the first token of the next one: 0 or 1 each.
#[derive(Default)]
struct Order {
    key: u64,
    colon: u64,
    open_object: u64,
    open_array: u64,
    comma_in_object: u64,
    comma_in_array: u64,
    value_end: u64,
    started: bool,
}

impl Order {
    /// The tokens that must not stand where they do. Those behind the last token count for nothing.
    #[inline]
    fn errors(&mut self, masks: &Masks, in_object: u64) -> u64 {
        let Masks { string, scalar, open_object, open_array, .. } = *masks;
        let Masks { close_object, close_array, comma, colon, .. } = *masks;
        let after_open_object = behind(open_object, &mut self.open_object);
        let after_open_array = behind(open_array, &mut self.open_array);
        let after_comma_in_object = behind(comma & in_object, &mut self.comma_in_object);
        let after_comma_in_array = behind(comma & !in_object, &mut self.comma_in_array);
        let after_colon = behind(colon, &mut self.colon);

        let key = string & (after_open_object | after_comma_in_object);
        let value = string & !key | scalar | open_object | open_array;
        let close = close_object | close_array;
        let after_value = behind(string & !key | scalar | close, &mut self.value_end);
        // The object around it all follows nothing.
        let first = u64::from(!std::mem::replace(&mut self.started, true));

        // What may stand before each kind says all: a token of no kind that may follow is an error
        // of the one behind it, and the last token closes the first.
        let known = string | scalar | open_object | open_array | close | comma | colon;
        let may_hold_value = after_colon | after_comma_in_array | after_open_array | first;
        let empty = close_object & after_open_object | close_array & after_open_array;
        !known
            | (colon ^ behind(key, &mut self.key))
            | (value & !may_hold_value)
            | ((comma | close) & !(after_value | empty))
    }
}

/// The tokens behind those of `mask`. `carry` is whether the first one is, from group to group.
#[inline]
fn behind(mask: u64, carry: &mut u64) -> u64 {
    mask << 1 | std::mem::replace(carry, mask >> (GROUP - 1))
}
