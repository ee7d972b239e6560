"""The bugs: each a single edit of one file."""

import dataclasses

PASSES = ("test_differential.py", "test_laws.py", "test_passes_golden.py", "test_meaning.py")
RUNS = ("test_differential.py", "test_testing_conformance.py", "test_faults.py", "test_meaning.py")
BATCHES = ("test_differential.py", "test_testing_conformance.py", "test_faults_in_batches.py", "test_faults.py")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One bug.

    Parameters
    ----------
    name : str
        What is wrong.
    file : str
        Below `dataflow`.
    old, new : str
        The text that is there, once, and what is put in its place.
    tests : tuple of str
        The files of tests that have to do with it, the likeliest first.
    shrinks : bool
        Whether a random flow shows it in its results, so that a counterexample can be shrunk.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    shrinks: bool = False


MUTANTS = (
    # ---- passes
    Mutant("canonicalize: a combine takes its parts backwards", "passes/canonicalize.py", "packs[made] = (op, inputs)", "packs[made] = (op, inputs[::-1])", PASSES, True),
    Mutant("canonicalize: a combine forgets the names of its parts", "passes/canonicalize.py", "names=pack.names, origin", "names=None, origin", PASSES),
    Mutant("canonicalize: the first combine's parts are every combine's", "passes/canonicalize.py", "pack, inputs = packs[inputs[0]]", "pack, inputs = next(iter(packs.values()))", PASSES, True),
    Mutant("merge: impure stages as well", "passes/merge.py", "if not node.op.pure():", "if node is None:", PASSES),
    Mutant("merge: equal stages on different inputs", "passes/merge.py", "first.setdefault((node.op.key(), inputs),", "first.setdefault((node.op.key(), ()),", PASSES, True),
    Mutant("merge: nothing is merged", "passes/merge.py", "return without(region, same) if same else region", "return region", PASSES),
    Mutant("drop: what only the second output leads to", "passes/drop.py", "*(value.node for value in node.inputs)", "*(value.node for value in node.inputs[:2])", PASSES),
    Mutant("hoist: what some branches begin with", "passes/hoist.py", "if count < len(found):", "if count < 2:", PASSES),
    Mutant("hoist: impure stages as well", "passes/hoist.py", "if not first.pure():", "if first is None:", PASSES),
    Mutant("hoist: a head runs before a branch is found", "passes/hoist.py", "value = build.add(head, value, after=decision)", "value = build.add(head, value)", PASSES),
    Mutant("hoist: tails in the wrong order", "passes/hoist.py", "for tail in reversed(tails):", "for tail in tails:", PASSES),
    Mutant("hoist: a head though others take its input", "passes/hoist.py", "return node if len(takers) == 1 and _movable(node) else None", "return node if _movable(node) else None", PASSES, True),
    Mutant("hoist: a tail though others take its result", "passes/hoist.py", "return node if used == 1 and _movable(node)", "return node if used >= 1 and _movable(node)", PASSES),
    Mutant("fuse: batched stages as well", "passes/fuse.py", "if options.batch is not None:\n        return f\"takes", "if options.batch == 0:\n        return f\"takes", (*PASSES, *BATCHES)),
    Mutant("fuse: GPU stages as well", "passes/fuse.py", "    if options.gpu:", "    if options.gpu is None:", PASSES),
    Mutant("fuse: races as well", "passes/fuse.py", "case ops.Race() | ops.Quorum():", "case ops.Quorum():", PASSES),
    Mutant("batch: impure stages share batches", "passes/batch.py", "if not _batched(node.op) or not node.op.pure():", "if not _batched(node.op):", (*PASSES, *BATCHES)),
    Mutant("batch: stages of different batch sizes share batches", "passes/batch.py", "return (placement, batch, _device(node.op)) if placement else None", "return (placement, _device(node.op)) if placement else None", (*PASSES, *BATCHES)),
    Mutant("cluster: a group that a path leaves and comes back to", "passes/cluster.py", "level = max(level, levels[source] + (not same))", "level = max(level, levels[source])", PASSES, True),
    Mutant("optimize: passes that repeat run once", "passes/__init__.py", "        if region is before:\n            break", "        break", PASSES),
    # ---- graph and plan
    Mutant("keys: 1 and True are one key", "expr/keys.py", "if value is None or kind in (bool, int, str, bytes):\n        return (kind, value)", "if value is None or kind in (bool, int, str, bytes):\n        return value", ("test_expr_structure.py", *PASSES)),
    Mutant("lower: an impure flow written once is shared", "graph/lower.py", "if not self._pure[id(flow)]:", "if flow is None:", PASSES),
    Mutant("lower: the fallback is the body", "graph/lower.py", "ops.Fallback(body=bodies[0], handler=bodies[1]", "ops.Fallback(body=bodies[0], handler=bodies[0]", PASSES, True),
    Mutant("plan: a slot is given up while it is needed", "plan/plan.py", "if last_use[value] == node.id)", "if last_use[value] >= node.id)", PASSES, True),
    Mutant("plan: batches inside constructs are not seen", "plan/plan.py", "batches = isinstance(op, ops.Batched) or any(body.batches for body in bodies)", "batches = isinstance(op, ops.Batched)", (*BATCHES, *PASSES)),
    Mutant("codegen: a variable is used again too early", "plan/codegen.py", "if name in mine and not pending[name]}", "if name in mine}", PASSES, True),
    Mutant("codegen: a decision that others need goes", "plan/codegen.py", "alone = uses[Value(node.id)] == 1 and", "alone = uses[Value(node.id)] >= 1 and", PASSES),
    Mutant("codegen: a value's first use is its last", "plan/codegen.py", "pending[name] += uses[value]", "pending[name] += min(uses[value], 1)", PASSES, True),
    # ---- columns
    Mutant("columns: faults at the wrong items", "executors/columns.py", "faults.update({alive[position]: fault for", "faults.update({position: fault for", RUNS, True),
    Mutant("columns: failed items stay in the columns", "executors/columns.py", "value: [column[position] for position in kept] for", "value: column for", RUNS, True),
    Mutant("columns: a switch's branches exchange their items", "executors/columns.py", "self._scatter(self._block(arm, [items[position] for position in mine]), mine, results, faults)", "self._scatter(self._block(arm, [items[position] for position in mine]), mine[::-1], results, faults)", RUNS, True),
    Mutant("columns: each takes its elements from the start", "executors/columns.py", "                faults[position] = failed[bad[first]]\n            start = end", "                faults[position] = failed[bad[first]]", RUNS, True),
    Mutant("columns: a failed element is its neighbour's as well", "executors/columns.py", "bad[first] < end:", "bad[first] <= end:", RUNS, True),
    Mutant("columns: retry does not look at the error", "executors/columns.py", "for position, fault in faults.items() if policies.caught(fault.error, op.on))\n            if not again", "for position, fault in faults.items())\n            if not again", RUNS),
    Mutant("columns: one attempt too few", "executors/columns.py", "for attempt in range(op.times):", "for attempt in range(op.times - 1):", RUNS),
    Mutant("columns: what was handed over has failed all the same", "executors/columns.py", "            for position in handed:\n                del faults[position]\n", "", RUNS, True),
    Mutant("columns: one success too many for a quorum", "executors/columns.py", "if len(parts) < op.quorum:", "if len(parts) <= op.quorum:", RUNS, True),
    Mutant("columns: a race is over with its first item", "executors/columns.py", "undecided = any(all(", "undecided = all(all(", RUNS),
    # ---- batches
    Mutant("batches: what follows sees the failed items", "executors/batches.py", "_Cell(items=_take(held.column(), kept))", "_Cell(items=held.column())", BATCHES, True),
    Mutant("batches: a second failure at the wrong item", "executors/batches.py", "faults[alive[position]] = Fault(failure, node.op)", "faults[position] = Fault(failure, node.op)", BATCHES, True),
    Mutant("batches: one item too many in each", "executors/batches.py", "start + min(call.ceiling for", "start + 1 + min(call.ceiling for", BATCHES),
    Mutant("batches: the last one is not run", "executors/batches.py", "while start < count:", "while start < count - 1 or start == 0:", BATCHES),
    Mutant("batches: an impure batch is split", "executors/calls.py", "        if not self.stage.options.pure:", "        if self.stage is None:", BATCHES),
    Mutant("batches: a bad item's neighbour is blamed", "executors/calls.py", "errors[start] = error", "errors[max(0, start - 1)] = error", BATCHES),
    Mutant("batches: more results than items pass", "executors/calls.py", "if size == given:", "if size is not None and size >= given:", BATCHES),
    Mutant("batches: a stage gets the list that we go on with", "executors/calls.py", "self.target(list(items))", "self.target(items)", BATCHES),
    Mutant("batches: a halved batch is not remembered", "executors/calls.py", "self.ceiling = max(1, min(self.ceiling, size // 2))", "pass", BATCHES),
    # ---- order, bounds and policies
    Mutant("map: reads further ahead than it may", "executors/inline.py", "return common if common <= limit else", "return common if common <= 2 * limit else", RUNS),
    Mutant("map: numbers begin again with each window", "executors/inline.py", "            start += len(window)\n            if broken", "            if broken", RUNS),
    Mutant("map: a source that fails just ends", "executors/inline.py", "            except Exception as error:  # what came before it is delivered first\n                broken = error\n            ended", "            except Exception:\n                pass\n            ended", RUNS),
    Mutant("map: a failed item leaves a gap", "executors/inline.py", "            if self._on_error == \"record\":", "            if self._on_error == \"skip\":", RUNS),
    Mutant("map: the first failure is not raised", "executors/inline.py", "                faults.clear()\n                raise fault.release()", "                return", RUNS),
    Mutant("map: items are numbered from one", "executors/inline.py", "source = enumerate(items)", "source = enumerate(items, 1)", RUNS),
    Mutant("session: submit works after the end", "executors/inline.py", "        self._check_open()\n        seconds = checked_deadline(\"submit\", deadline)", "        seconds = checked_deadline(\"submit\", deadline)", RUNS),
    Mutant("policies: a StopIteration gets out", "executors/policies.py", "if not isinstance(error, StopIteration):", "if isinstance(error, Exception):", RUNS),
    Mutant("policies: the back-off does not double", "executors/policies.py", "clock.sleep(op.backoff * 2**attempt)", "clock.sleep(op.backoff * 2 * attempt)", RUNS),
    Mutant("policies: survivors in the wrong order", "executors/policies.py", "order = sorted(parts)", "order = sorted(parts, reverse=True)", RUNS),
    Mutant("policies: a quorum gives up too early", "executors/policies.py", "lost > len(tasks) - op.quorum:", "lost >= len(tasks) - op.quorum:", RUNS),
    Mutant("policies: a fallback catches everything", "executors/policies.py", "        except Exception as error:\n            if not caught(error, op.on):\n                raise\n        go_on()", "        except Exception:\n            pass\n        go_on()", RUNS, True),
    Mutant("policies: an unhashable key is an error", "executors/policies.py", "        except TypeError:  # an unhashable key matches nothing\n            number = other", "        except TypeError:\n            raise", RUNS),
    Mutant("policies: parts by position where they have names", "executors/policies.py", "return fn(**parts)", "return fn(*parts.values())", RUNS),
    Mutant("aside: context variables stay behind", "executors/aside.py", "contextvars.copy_context()", "contextvars.Context()", RUNS),
    Mutant("aside: KeyboardInterrupt is only that branch's", "executors/aside.py", "            if task.interrupted:\n                task.result()", "            if task is None:\n                task.result()", RUNS),
)  # fmt: skip
