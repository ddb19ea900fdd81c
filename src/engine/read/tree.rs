//! A task with the tasks it was split into, level by level.

use super::side::ReadSide;
use crate::engine::api::{Answer, TreeNode};
use crate::store::{self, PageBudget};
use crate::task::TaskId;

impl TreeNode {
    /// Returns about how many bytes the node takes of a response.
    fn bytes(&self) -> usize {
        64 + self.answer.as_ref().map_or(0, |answer| answer.body.len())
    }
}

/// Returns a task and all tasks below it, parents before their children, at most
/// `most` tasks and about [`store::PAGE_BYTES`]. The first node is the task itself.
/// Empty: there is no such task.
pub(in crate::engine) fn tree(side: &ReadSide, root: TaskId, most: usize) -> Result<Vec<TreeNode>, store::Error> {
    let view = side.store.view()?;
    let Some(node) = read_node(side, &view, root)? else { return Ok(Vec::new()) };
    let mut budget = PageBudget::new(most);
    budget.admit(node.bytes());
    let mut nodes = vec![node];
    let mut next = 0;
    while let Some(children) = nodes.get(next).map(|node| node.child_ids.clone()) {
        let left = most.saturating_sub(nodes.len());
        if let Some(family) = read_children(side, &view, &children, left, &mut budget)? {
            let first = nodes.len();
            nodes.extend(family);
            let range = first..nodes.len();
            if let Some(node) = nodes.get_mut(next) {
                node.children = Some(range);
            }
        }
        next += 1;
    }
    Ok(nodes)
}

/// Returns all children of a task; `None`: they do not all fit.
fn read_children(
    side: &ReadSide,
    view: &store::View,
    children: &[TaskId],
    most: usize,
    budget: &mut PageBudget,
) -> Result<Option<Vec<TreeNode>>, store::Error> {
    if children.len() > most {
        return Ok(None);
    }
    let (mut family, mut left) = (Vec::with_capacity(children.len()), *budget);
    for &id in children {
        let removed = TreeNode { task: id, answer: None, child_ids: Vec::new(), children: Some(0..0) };
        let child = read_node(side, view, id)?.unwrap_or(removed);
        if !left.admit(child.bytes()) {
            return Ok(None);
        }
        family.push(child);
    }
    *budget = left;
    Ok(Some(family))
}

fn read_node(side: &ReadSide, view: &store::View, id: TaskId) -> Result<Option<TreeNode>, store::Error> {
    let Some(task) = view.task(id)? else { return Ok(None) };
    let answer: Option<Answer> = side.statuses.get(id)?;
    Ok(answer.map(|answer| TreeNode { task: id, answer: Some(answer), child_ids: task.children, children: None }))
}
