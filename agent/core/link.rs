//! Stand-in.
use crate::{
    error::Rejection,
    event::{Millis, NodeId},
};
use alloc::vec::Vec;
/// x
pub struct Links {}
impl Links {
    /// x
    pub fn new(_seed: u64) -> Self {
        Self {}
    }
    /// x
    pub fn send(
        &mut self,
        _now: Millis,
        to: NodeId,
        frame: Vec<u8>,
        out: &mut Vec<(NodeId, Vec<u8>)>,
    ) {
        out.push((to, frame));
    }
    /// x
    pub fn receive(
        &mut self,
        _now: Millis,
        _from: NodeId,
        payload: &[u8],
        _out: &mut Vec<(NodeId, Vec<u8>)>,
    ) -> Result<Vec<Vec<u8>>, Rejection> {
        Ok(Vec::from([payload.to_vec()]))
    }
    /// x
    pub fn flush(&mut self, _now: Millis, _out: &mut Vec<(NodeId, Vec<u8>)>) {}
    /// x
    pub fn tick(&mut self, _now: Millis, _out: &mut Vec<(NodeId, Vec<u8>)>) {}
    /// x
    pub fn deadline(&self) -> Option<Millis> {
        None
    }
    /// x
    pub fn forget(&mut self, _peer: NodeId) {}
}
