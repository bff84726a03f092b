"""Bad options and bad places to write to, in the same register as bad_input."""

import pyarrow as pa
import torch
from bad_input import case
from pyarrow import parquet


def below_a_file(d, name="x"):
    """A path that nobody can create, root included."""
    return d.file("file", "x") / name


@case("is not a folder")
def output_below_a_file(d):
    return d.score(output=below_a_file(d, "out.csv"))


@case("is a folder; name a file")
def output_is_a_folder(d):
    (d.folder / "out.csv").mkdir()
    return d.score()


@case("unknown extension '.xlsx'; give one of .csv, .tsv, .jsonl, .ndjson, .parquet")
def unknown_extension(d):
    return d.score(output="out.xlsx")


@case("is the table to score")
def output_is_the_input(d):
    return d.score(source=d.file("out.csv", "text\na b\n"))


@case("is the table to score")
def output_is_a_link_to_the_input(d):
    (d.folder / "out.csv").symlink_to(d.file("in.csv", "text\na b\n"))
    return d.score(source=d.folder / "in.csv")


@case("column 'parts' (list<item: string>) does not fit a CSV")
def column_that_no_csv_holds(d):
    return d.score(source=d.file("t.jsonl", '{"text": "a b", "parts": ["a", "b"]}\n'))


@case("column 'raw' (binary) does not fit a JSONL")
def column_that_no_json_holds(d):
    parquet.write_table(pa.table({"text": ["a b"], "raw": [b"\xff"]}), d.folder / "t.parquet")
    return d.score(source=d.folder / "t.parquet", output="out.jsonl")


@case("is not a folder")
def report_below_a_file(d):
    return d.evaluate("--report", below_a_file(d))


@case("is not a folder")
def report_is_a_file(d):
    return d.evaluate("--report", d.file("file", "x"))


@case("is not a folder")
def artifact_below_a_file(d):
    return d.fit("--artifact", below_a_file(d))


@case("is not a folder")
def adapter_with_a_file_for_its_artifact(d):
    adapter = d.adapter(fitted=False)
    (adapter / "dubio").write_text("x")
    return d.fit(adapter=adapter)


@case("is not a folder")
def cache_below_a_file(d):
    return d.fit("--cache", below_a_file(d))


@case("is not a folder")
def cache_below_a_file_when_scoring(d):
    return d.score("--cache", below_a_file(d))


@case("is not a folder")
def new_adapter_below_a_file(d):
    return d.train(out=below_a_file(d))


@case("already holds an adapter")
def new_adapter_on_an_old_one(d):
    return d.train(out=d.adapter())


if not torch.cuda.is_available():

    @case("this machine has no CUDA device")
    def no_cuda(d):
        return d.fit("--device", "cuda")

    @case("this machine has no CUDA device")
    def no_cuda_when_training(d):
        return d.train("--set", "device=cuda")


@case("unknown device 'gpu'")
def unknown_device(d):
    return d.score("--device", "gpu")


@case("unknown precision 'int8'")
def unknown_precision(d):
    return d.score("--precision", "int8")


@case("unknown precision 'int8'")
def unknown_precision_when_training(d):
    return d.train("--set", "precision=int8")


@case("no method named 'nope'; known: softmax_response, entropy, ")
def unknown_method(d):
    return d.fit("--methods", "softmax_response,nope")


@case("softmax_response must be among --methods")
def methods_without_the_incumbent(d):
    return d.fit("--methods", "md,entropy")


@case("method md needs the training rows; give --train")
def method_without_its_rows(d):
    return ["fit", d.tiny.adapter, "--calibration", d.tiny.calibration, "--methods", "softmax_response,md"]


@case("risk must lie strictly between 0 and 1, got 0.0")
def no_risk(d):
    return d.score("--risk", "0")


@case("risk must lie strictly between 0 and 1, got nan")
def risk_that_is_no_number(d):
    return d.evaluate("--risk", "nan")


@case("delta must lie strictly between 0 and 1, got 1.0")
def certain_failure(d):
    return d.score("--delta", "1")


@case("delta must lie strictly between 0 and 1, got -0.1")
def negative_delta(d):
    return d.evaluate("--delta", "-0.1")


@case("max length 1 leaves no room for text")
def no_room(d):
    return d.fit("--max-length", "1")


@case("no training setting 'speed'; known: rank, alpha, ")
def unknown_setting(d):
    return d.train("--set", "speed=9")


@case("setting epochs: 'many' is no whole number")
def unreadable_setting(d):
    return d.train("--set", "epochs=many")


@case("setting show: 'maybe' is neither yes nor no")
def undecided_setting(d):
    return d.train("--set", "show=maybe")


@case("setting batch_size: 0 is out of range; it must be at least 1")
def setting_out_of_range(d):
    return d.train("--set", "batch_size=0")


@case("setting learning_rate: nan is out of range")
def setting_that_is_no_number(d):
    return d.train("--set", "learning_rate=nan")


@case("the training rows are all of one class")
def trained_on_one_class(d):
    return d.train(train=d.table([f"a b {n}" for n in range(40)], ["food"] * 40))


@case("nothing can be held out of 1 distinct row; give --validation")
def nothing_to_hold_out(d):
    return d.train(train=d.table(["a b", "a  b"], ["food", "sport"]))


@case("label 'politics' is not in the model")
def validation_label_not_in_train(d):
    return d.train("--validation", d.table(["a b", "c d"], ["food", "politics"]))


@case("there is no base model folder")
def missing_base(d):
    return d.fit("--base", d.folder / "none")


@case("Missing option '--calibration'; see 'dubio fit --help'")
def missing_option(d):
    return ["fit", d.tiny.adapter]


@case("Missing argument 'table'; see 'dubio score --help'")
def missing_argument(d):
    return ["score", d.tiny.adapter, "--output", d.folder / "out.csv"]


@case("No such option: --nope; see 'dubio fit --help'")
def unknown_option(d):
    return d.fit("--nope")


@case("No such command 'guess'; see 'dubio --help'")
def unknown_command(d):
    return ["guess"]


@case("Invalid value for '--risk'")
def option_that_is_no_number(d):
    return d.score("--risk", "low")


@case("requires an argument")
def option_without_value(d):
    return ["score", d.tiny.adapter, d.tiny.test, "--output"]
