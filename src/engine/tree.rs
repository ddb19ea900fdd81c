//! A task with the tasks it was split into, level by level.

use std::ops::Range;

use super::api::Answer;
use super::read::ReadSide;
use crate::store::{self, PageBudget};
use crate::task::TaskId;

/// One task of a tree.
#[derive(Debug, Clone)]
pub struct TreeNode {
    /// The task.
    pub task: TaskId,
    /// Its status answer; `None`: it was removed.
    pub answer: Option<Answer>,
    /// The tasks it was split into.
    pub child_ids: Vec<TaskId>,
    /// Where those stand in the tree; `None`: there was no room for them.
    pub children: Option<Range<usize>>,
}

impl TreeNode {
    /// What it takes of an answer, about.
    fn bytes(&self) -> usize {
        64 + self.answer.as_ref().map_or(0, |answer| answer.body.len())
    }
}

/// The task and what is below it, parents before their children, at most
/// `most` tasks and about [`store::PAGE_BYTES`]; the first is the task itself.
/// Empty: there is no such task.
pub(super) fn tree(side: &ReadSide, root: TaskId, most: usize) -> Result<Vec<TreeNode>, store::Error> {
    let view = side.store.view()?;
    let Some(node) = read(side, &view, root)? else { return Ok(Vec::new()) };
    let mut budget = PageBudget::new(most);
    budget.admit(node.bytes());
    let mut nodes = vec![node];
    let mut next = 0;
    while let Some(children) = nodes.get(next).map(|node| node.child_ids.clone()) {
        let left = most.saturating_sub(nodes.len());
        if let Some(family) = family(side, &view, &children, left, &mut budget)? {
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

/// All children of a task; `None`: there is no room for all of them.
fn family(
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
        let child = read(side, view, id)?.unwrap_or(removed);
        if !left.admit(child.bytes()) {
            return Ok(None);
        }
        family.push(child);
    }
    *budget = left;
    Ok(Some(family))
}

fn read(side: &ReadSide, view: &store::View, id: TaskId) -> Result<Option<TreeNode>, store::Error> {
    let Some(task) = view.task(id)? else { return Ok(None) };
    let answer: Option<Answer> = side.status(id)?;
    Ok(answer.map(|answer| TreeNode { task: id, answer: Some(answer), child_ids: task.children, children: None }))
}
