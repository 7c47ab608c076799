"""Errors: one tree, exit codes, and sentences that list what is known."""

import inspect

import pytest

from cxr_core import errors
from cxr_core.errors import AlreadyExists, BadDataset, BadInput, CxrError, UnknownName, UnreadableImage, WorkFailed


def test_every_error_of_the_project_belongs_to_one_tree():
    defined = [one for _, one in inspect.getmembers(errors, inspect.isclass) if one.__module__ == errors.__name__]
    assert defined
    assert all(issubclass(one, CxrError) for one in defined)


@pytest.mark.parametrize("kind", [BadInput, AlreadyExists, UnreadableImage, BadDataset])
def test_what_the_person_can_mend_exits_with_2(kind: type[CxrError]):
    assert issubclass(kind, BadInput)
    assert kind("A sentence.").exit_code == 2
    assert str(kind("A sentence.")) == "A sentence."


def test_failed_work_exits_with_1_and_is_no_bad_input():
    assert WorkFailed("A sentence.").exit_code == 1
    assert not issubclass(WorkFailed, BadInput)


def test_an_unknown_name_lists_the_known_ones_in_their_order():
    error = UnknownName("model", "xyz", ["vgg16", "custom_cnn"])
    assert str(error) == "There is no model named 'xyz'. Known: vgg16, custom_cnn."
    assert (error.name, error.known, error.exit_code) == ("xyz", ["vgg16", "custom_cnn"], 2)


def test_a_misspelt_name_is_answered_with_the_near_one():
    assert "Did you mean 'custom_cnn'?" in str(UnknownName("model", "custom_cn", ["vgg16", "custom_cnn"]))


def test_a_long_list_of_known_names_is_cut_at_50_and_counted():
    message = str(UnknownName("run", "zzz", [f"r{number:02}" for number in range(55)]))
    assert "r49 and 5 more." in message
    assert "r50" not in message


def test_where_there_is_nothing_yet_the_message_says_so():
    assert str(UnknownName("dataset", "a", [])) == "There is no dataset named 'a'. There is no dataset yet."


def test_known_names_may_come_from_any_iterable_once():
    assert UnknownName("run", "c", (name for name in "ab")).known == ["a", "b"]
