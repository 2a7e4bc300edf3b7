"""Own texts in the columns of published benchmarks, two or more rows of each part."""

from helpers.tiny_backbones import text

from vrm_pyro.diagnostics.suites import ppe, rewardbench, rewardbench2, rm_bench


def _texts(seed, count):
    return [text(1000 * seed + j, 3 + (seed + j) % 5) for j in range(count)]


def rewardbench_rows():
    """Two pairs of every subset."""
    subsets = [name for held in rewardbench.COUNTS.values() for name in held]
    rows = []
    for n, subset in enumerate(name for name in subsets for _ in "ab"):
        prompt, chosen, rejected = _texts(n, 3)
        rows.append(
            {"prompt": prompt, "chosen": chosen, "rejected": rejected, "subset": subset, "id": n}
        )
    return rows


def rewardbench2_rows():
    """Two prompts of every subset; of Ties both cases of each."""
    rows = []
    for n, subset in enumerate(name for name in rewardbench2.SUBSETS for _ in "ab"):
        prompt, *answers = _texts(100 + n, 8)
        kinds = ("ref", "tied") if subset == "Ties" else ("",)
        for kind in kinds:
            right = 3 if kind == "tied" else 1
            rows.append(
                {
                    "id": f"{kind}:{n}" if kind else str(n),
                    "prompt": prompt,
                    "chosen": answers[:right],
                    "rejected": answers[right : right + 3],
                    "num_correct": right,
                    "subset": subset,
                }
            )
    return rows


def rm_bench_rows():
    """Two prompts of every domain, of safety from both files."""
    rows = []
    domains = ("chat", "code", "math", "safety-refuse", "safety-response")
    assert {name.partition("-")[0] for name in domains} == set(rm_bench.DOMAINS)
    for n, domain in enumerate(name for name in domains for _ in "ab"):
        prompt, *answers = _texts(200 + n, 7)
        rows.append(
            {
                "id": n,
                "prompt": prompt,
                "chosen": answers[:3],
                "rejected": answers[3:],
                "domain": domain,
            }
        )
    return rows


def judgebench_rows():
    """Two pairs of every source."""
    sources = ("mmlu-pro-law", "mmlu-pro-math", "livebench-reasoning", "livebench-math")
    rows = []
    for n, source in enumerate(name for name in (*sources, "livecodebench") for _ in "ab"):
        question, first, second = _texts(300 + n, 3)
        rows.append(
            {
                "pair_id": f"pair {n}",
                "original_id": str(n),
                "source": source,
                "question": question,
                "response_model": "own",
                "response_A": first,
                "response_B": second,
                "label": ("A>B", "B>A")[n % 2],
            }
        )
    return rows


def rmb_rows():
    """Two pairs and two lists of each goal."""
    rows = []
    for n, goal in enumerate(name for name in ("Helpfulness", "Harmlessness") for _ in "ab"):
        prompt, *answers = _texts(400 + n, 5)
        named = [{"llm_name": "own", "answer": answer} for answer in answers]
        turns = [{"role": "user", "content": prompt, "language": "English"}]
        rows += [
            {
                "conversation_input": turns,
                "chosen": named[0],
                "reject": named[1],
                "pair_uid": str(n),
                "category_path": f"Pairwise_set/{goal}/Chat/Discussion",
            },
            {
                "conversation_input": turns,
                "bon_best": named[0],
                "loser_list": named[1:],
                "bon_uid": str(n),
                "category_path": f"BoN_set/{goal}/Chat/Discussion",
            },
        ]
    return rows


def ppe_rows():
    """Four votes of people, one of them a tie, and two prompts of each benchmark."""
    rows = []
    for n, winner in enumerate(("model_a", "model_b", "tie (bothbad)", "model_a")):
        prompt, first, second = _texts(500 + n, 3)
        rows.append(
            {
                "question_id": f"vote {n}",
                "prompt": prompt,
                "response_1": first,
                "response_2": second,
                "winner": winner,
            }
        )
    for n, name in enumerate(name for name in ppe.BENCHMARKS.values() for _ in "ab"):
        prompt, *answers = _texts(600 + n, 5)
        rows.append(
            {
                "question_id": n,
                "prompt": prompt,
                "scores": [True, False, False, True],
                "sampled_conflict_pairs": [[0, 1], [2, 3]],
                "benchmark": name,
                **{f"response_{j + 1}": answer for j, answer in enumerate(answers)},
            }
        )
    return rows


ROWS = {
    "rewardbench": rewardbench_rows,
    "rewardbench2": rewardbench2_rows,
    "rm_bench": rm_bench_rows,
    "judgebench": judgebench_rows,
    "rmb": rmb_rows,
    "ppe": ppe_rows,
}
