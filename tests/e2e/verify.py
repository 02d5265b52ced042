"""`lockstep verify` proves a run's record, and notices whatever is taken from it, added to it or changed in it."""
import json
import shutil
import sqlite3

from support import Case, checkpoint, run, run_tests


def sql(database, statement):
    def damage(out):
        with sqlite3.connect(out / database) as db:
            assert db.execute(statement).rowcount > 0, statement
        db.close()
    return damage


def remove(name):
    def damage(out):
        path = out / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return damage


def link(name, target):
    def damage(out):
        (out / "checkpoints" / name).unlink()
        (out / "checkpoints" / name).symlink_to(target)
    return damage


def write(name, content):
    return lambda out: (out / name).write_bytes(content)


def swap(a, b):
    def damage(out):
        a_path, b_path, aside = out / "checkpoints" / a, out / "checkpoints" / b, out / "aside"
        a_path.rename(aside), b_path.rename(a_path), aside.rename(b_path)
    return damage


def of_another(name):
    """A whole checkpoint of the same step, of another run."""
    def damage(out):
        shutil.rmtree(out / "checkpoints" / name)
        shutil.copytree(out.parent / "another" / "checkpoints" / name, out / "checkpoints" / name)
    return damage


DAMAGE = [  # what is done, and a word of what verify then says
    (sql("run.db", "delete from epoch where epoch = 1"), "epoch lacks a row"),
    (sql("run.db", "delete from evaluation where step = (select max(step) from evaluation)"), "evaluation lacks a row"),
    (sql("run.db", "update evaluation set value = 0.99 where metric = 'accuracy'"), "value=0.99"),
    (sql("run.db", "delete from decision where kind = 'stop'"), "decision lacks a row"),
    (sql("run.db", "update decision set reason = 'because' where kind = 'stop'"), "reason=because"),
    (sql("run.db", "delete from checkpoint"), "checkpoint lacks a row"),
    (sql("run.db", "delete from rank"), "rank lacks a row"),
    (sql("run.db", "delete from step where step = 7"), "step 7 is missing"),
    (sql("run.db", "delete from rank_step where step = 7 and rank = 1"), "the rows of 1 of 2 ranks"),
    (sql("run.db", "update step set samples = samples + 1 where step = 3"), "step 3 has"),
    (remove("run.db"), "run.db: No such file"),
    (write("run.db", b"garbage" * 100), "run.db: not a SQLite database"),
    (sql("journal.db", 'delete from "update" where seq > 20'), "of a journal that ends with update 20"),
    (sql("journal.db", 'delete from "update" where seq = 5'), "update 5 is missing"),
    (sql("journal.db", 'update "update" set time = time + 1 where seq = 9'), "update 9 is not as it was written"),
    (sql("journal.db", "update \"update\" set json = replace(json, '0.', '1.')"), "is not as it was written"),
    (sql("journal.db", 'update "update" set body = (select body from "update" where seq = 4) where seq = 6'), "update 6 is not"),
    (remove("journal.db"), "journal.db: No such file"),
    (write("journal.db", b""), "BAD   journal"),
    (write("journal.db", b"garbage" * 100), "journal.db: not a SQLite database"),
    (write("config.yaml", b"model: {name: [}"), "BAD   config.yaml"),
    (lambda out: (out / "config.yaml").write_text((out / "config.yaml").read_text().replace("seed: ", "seed: 1")), "its digest is"),
    (remove("checkpoints/step-00000020"), "checkpoint step 20: is not there"),
    (remove("checkpoints/step-00000020/MANIFEST.json"), "BAD   checkpoint step 20"),
    (remove("checkpoints/step-00000020/optimizer.safetensors"), "BAD   checkpoint step 20"),
    (of_another("step-00000020"), "checkpoint step 20: whole, but not the one that was committed"),
    (swap("step-00000010", "step-00000020"), "BAD   checkpoint step 10"),
    (remove("checkpoints/latest"), "checkpoints/latest: is not there"),
    (link("latest", "step-00000010"), "checkpoints/latest: points at step-00000010"),
    (link("best", "step-00009999"), "checkpoints/best: points at step-00009999"),
]


class Verify(Case):
    def small_run(self, name, **settings):
        out = self.folder / name
        run("run", self.small(convergence__max_epochs=3, checkpoint__every_steps=10, checkpoint__keep_last=100, **settings),
            "--workers", 2, "--out", out)
        return out

    def test_whatever_is_changed_in_a_record_is_noticed(self):
        whole = self.small_run("whole")
        self.small_run("another", run__seed=99)
        said = run("verify", whole).stdout
        self.assertNotIn("BAD", said)
        self.assertIn("verified", said)
        for number, (damage, word) in enumerate(DAMAGE):
            with self.subTest(number=number, word=word):
                out = self.folder / "out"
                shutil.copytree(whole, out, symlinks=True)
                damage(out)
                said = run("verify", out, code=1).stdout
                self.assertIn(word, said)
                self.assertFalse(json.loads(run("verify", out, "--json", code=1).stdout)["good"])
                shutil.rmtree(out)

    def test_old_checkpoints_that_gave_way_are_not_missed(self):
        out = self.folder / "out"
        run("run", self.small(convergence__max_epochs=4, checkpoint__every_steps=3, checkpoint__keep_last=2), "--workers", 2, "--out", out)
        run("verify", out)

    def test_a_resume_makes_a_run_db_that_is_gone_anew_from_the_journal(self):
        out = self.small_run("out")
        (out / "run.db").unlink()
        run("run", "--resume", out, "--set", "convergence.max_epochs=4")
        said = run("verify", out, code=1).stdout
        self.assertIn("good  run.db", said)
        self.assertIn("steps 1 to 57 are missing", said)  # what was measured cannot be had again

    def test_a_run_without_its_journal_is_not_resumed(self):
        out = self.small_run("out")
        for damage in (remove("journal.db"), write("journal.db", b"")):
            damage(out)
            before = checkpoint(out).resolve()
            said = run("run", "--resume", out, "--set", "convergence.max_epochs=4", code=2).stderr
            self.assertIn("journal.db", said)
            self.assertEqual(len(said.splitlines()), 1, said)
            self.assertEqual(checkpoint(out).resolve(), before)


if __name__ == "__main__":
    run_tests()
