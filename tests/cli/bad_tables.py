"""Bad tables, in the register of bad_input."""

from bad_input import case

from tiny_classifier import read_rows


@case("none.csv: no such file")
def missing_table(d):
    return d.fit(calibration=d.folder / "none.csv")


@case("there is no adapter folder")
def missing_adapter(d):
    return d.fit("--artifact", d.folder / "artifact", adapter=d.folder / "none")


@case("there is no adapter folder")
def missing_adapter_and_artifact(d):
    return d.score(adapter=d.folder / "none")


@case("no such folder")
def table_in_a_missing_folder(d):
    return d.fit(calibration=d.folder / "none" / "t.csv")


@case("there is no folder")
def artifact_in_a_missing_folder(d):
    return d.score("--artifact", d.folder / "none")


@case("no column 'nope'; there are: id, text, label")
def no_such_column(d):
    return d.fit("--text", "nope")


@case("no column 'nope'")
def no_such_label_column(d):
    return d.evaluate("--label", "nope")


@case("no column 'label', which was fitted on (name another by")
def no_label_column(d):
    return d.evaluate(test=d.file("t.csv", "text\na\nb\n"))


@case("zero rows")
def zero_rows(d):
    return d.score(source=d.file("t.csv", "text\n"))


@case("line 3: column 'text' is empty")
def empty_text(d):
    return d.score(source=d.file("t.csv", 'text,id\na,1\n"  ",2\n'))


@case("line 4: label 'politics' is not in the model; it knows: 0 food, 1 sport, 2 weather")
def label_not_in_the_model(d):
    return d.fit(calibration=d.table(["a b", "c d", "e f"], ["food", "sport", "politics"]))


@case("label 'politics' is not in the model")
def unknown_test_label(d):
    return d.evaluate(test=d.table(["a b", "c d"], ["food", "politics"]))


@case("line 2: column 'label' is missing or NaN")
def nan_label(d):
    return d.fit(calibration=d.file("t.jsonl", '{"text": "a", "label": 1.0}\n{"text": "b", "label": NaN}\n'))


@case("line 3: column 'label' is missing")
def no_label(d):
    return d.fit(train=d.table(["a", "b"], ["food", ""]))


@case("line 3: byte 18 is not UTF-8")
def not_utf8(d):
    return d.score(source=d.file("t.csv", "text,label\na,b\ncaf\xe9,d\n".encode("latin-1")))


@case("line 3 has 3 fields, the header has 2")
def ragged(d):
    return d.score(source=d.file("t.csv", "text,label\na,b\nc,d,e\n"))


@case("column 'text' holds only numbers, not text")
def numbers_for_text(d):
    return d.score(source=d.file("t.csv", "text,label\n1,a\n2.5,b\n"))


@case("column 'text' holds numbers, not text")
def numbers_for_text_in_json(d):
    return d.score(source=d.file("t.jsonl", '{"text": 1}\n{"text": 2}\n'))


@case("all 3 calibration rows are of class 'food'")
def one_class(d):
    return d.fit(calibration=d.table(["a b", "c d", "e f"], ["food"] * 3))


@case("calibration predictions are right", late=True)
def no_errors(d):
    rows = [row for row in read_rows(d.tiny.root / "scored.csv") if row["predicted_label"] == row["label"]]
    return d.fit(calibration=d.table([row["text"] for row in rows], [row["label"] for row in rows]))


@case("calibration predictions are wrong", late=True)
def nothing_right(d):
    rows = [row for row in read_rows(d.tiny.root / "scored.csv") if row["predicted_label"] != row["label"]]
    return d.fit(calibration=d.table([row["text"] for row in rows], [row["label"] for row in rows]))


@case("rows of calibration are also in train")
def calibration_in_train(d):
    rows = read_rows(d.tiny.train)[:40] + read_rows(d.tiny.calibration)
    return d.fit(calibration=d.table([row["text"] for row in rows], [row["label"] for row in rows]))


@case("400 of 400 rows of test are also in calibration (as stored)")
def tested_on_calibration(d):
    return d.evaluate(test=d.tiny.calibration)


@case("300 of 300 rows of ood are also in test, such as line 2")
def own_test_as_another_domain(d):
    return d.evaluate("--ood", d.tiny.test)


@case("1 of 3 rows of test are also in train (as stored), such as line 3")
def tested_on_train(d):
    row = read_rows(d.tiny.train)[7]
    return d.evaluate(test=d.table(["a b", f"  {row['text']}", "c d"], ["food"] * 3))


@case("rows of validation are also in train")
def validation_in_train(d):
    return d.train("--validation", d.tiny.train)


@case("no column 'author'; there are: id, text, label")
def no_such_column_of_groups(d):
    return d.fit("--groups", "author")


@case("line 3: column 'author' is missing; give every row its group")
def row_without_group(d):
    table = d.file("t.csv", "text,label,author\na,food,x\nb,sport,\n")
    return d.fit("--groups", "author", calibration=table)


@case("--groups is for the tenth that is held out of train")
def groups_of_nothing_held_out(d):
    return d.train("--validation", d.tiny.test, "--groups", "none")


@case("the text could be 'text' or 'review'; name it by --text")
def two_texts(d):
    return d.fit(calibration=d.file("t.csv", "text,review,label\na,b,food\n"))


@case("the label could be column 'label' or 'topic'; name it by --label")
def two_labels(d):
    return d.fit(calibration=d.file("t.csv", "text,label,topic\na,food,b\n"))


@case("line 4: text follows a closing quote (opened on line 3); in a quoted text write each quote twice")
def stray_quote(d):
    return d.score(source=d.file("t.csv", 'text,id\na,1\n"b,2\n"c" d,3\n'))


@case("column 'label' holds list<item: string>; a label is one name or one id a row")
def list_of_labels(d):
    return d.evaluate(test=d.file("t.jsonl", '{"text": "a", "label": ["food"]}\n'))
