//! Which of the paths under way an observation fits.

/// How well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// All of it is accounted for. Holds how many paths fitted equally where one was chosen.
    Whole(u32),
    /// Some of its stream bytes are.
    Part(u32),
    /// Nothing is.
    None,
}

/// The search itself, by kind of packet.
pub(crate) mod resolve {
    use slab::Slab;

    use super::Fit;
    use crate::join::flow::Way;
    use crate::join::journey::Share;
    use crate::join::track::Track;
    use crate::model::Point;
    use crate::observation::Observation;
    use crate::wire::packet::Packet;

    /// Equal packets looked at before giving up on telling how many there are.
    const MOST_EQUALS: usize = 64;

    /// Whether the path may still be where the observation was made: a point that has seen all of a path sees
    /// another path's packet.
    fn is_open(track: &Track, observation: &Observation, latest: i64) -> bool {
        track.first <= latest && (observation.point == Point::KfreeSkb || !track.is_covered_at(observation))
    }

    /// A packet without stream bytes: the oldest path of equal content that this point has not seen.
    pub(crate) fn exact(
        observation: &Observation,
        packet: &Packet,
        (flow, forward): (usize, bool),
        first: Option<usize>,
        tracks: &Slab<Track>,
        latest: i64,
        shares: &mut Vec<Share>,
    ) -> Fit {
        let equals = std::iter::successors(first, |at| tracks[*at].next_same)
            .take(MOST_EQUALS)
            .filter(|at| (tracks[*at].flow, tracks[*at].forward) == (flow, forward))
            .filter(|at| tracks[*at].packet.same_as(packet));
        let (mut chosen, mut fitting) = (None, 0);
        for at in equals {
            let track = &tracks[at];
            if is_open(track, observation, latest) {
                chosen.get_or_insert(at);
                fitting += 1;
            } else if track.ambiguity > 1 {
                // It took one of several that fitted it, so this one may be its own.
                fitting += 1;
            }
        }
        let Some(track) = chosen else { return Fit::None };
        shares.push(Share { track, bytes: 1 });
        Fit::Whole(fitting)
    }

    /// A packet with stream bytes: for each of them, the path whose identification agrees, else the oldest one
    /// that has it and was not seen here.
    pub(crate) fn stream(
        observation: &Observation,
        packet: &Packet,
        way: &mut Way,
        tracks: &Slab<Track>,
        latest: i64,
        shares: &mut Vec<Share>,
    ) -> Fit {
        let Some((seq, bytes)) = packet.stream() else { return Fit::None };
        let mut cursor = way.unwrap(seq);
        let end = cursor + u64::from(bytes);
        let (mut ambiguity, mut gaps) = (1, false);
        while cursor < end {
            let mut best: Option<(u8, u64, usize)> = None;
            let (mut fitting, mut doubtful) = (0, 0);
            for span in way.holding(cursor) {
                let track = &tracks[span.track];
                if !is_open(track, observation, latest) {
                    doubtful += u32::from(track.ambiguity > 1);
                    continue;
                }
                let score = score(observation, packet, track);
                match best {
                    Some((other, ..)) if other > score => {}
                    Some((other, ..)) if other == score => fitting += 1,
                    _ => {
                        best = Some((score, span.end, span.track));
                        fitting = 1;
                    }
                }
            }
            match best {
                Some((score, span_end, track)) => {
                    let until = span_end.min(end);
                    shares.push(Share { track, bytes: u32::try_from(until - cursor).unwrap_or(u32::MAX) });
                    ambiguity = ambiguity.max(if score == 0 { fitting + doubtful } else { fitting });
                    cursor = until;
                }
                None => {
                    gaps = true;
                    cursor = way.next_start(cursor).unwrap_or(end);
                }
            }
        }
        match (shares.is_empty(), gaps) {
            (true, _) => Fit::None,
            (false, true) => Fit::Part(ambiguity),
            (false, false) => Fit::Whole(ambiguity),
        }
    }

    /// 2 for a path that the journey is known to be, 1 for one whose identification agrees.
    fn score(observation: &Observation, packet: &Packet, track: &Track) -> u8 {
        if track.journeys.contains(&(observation.node, observation.identity)) {
            return 2;
        }
        // Segments are numbered from their whole's identification on. IPv6 has none.
        let distance = |from: u32, to: u32| (to as u16).wrapping_sub(from as u16);
        let within = |distance: u16, segments: u32| u32::from(distance) < segments.max(1);
        let agrees = packet.src.is_ipv4()
            && (within(distance(track.packet.id, packet.id), track.segments)
                || within(distance(packet.id, track.packet.id), observation.segments));
        u8::from(agrees)
    }
}
