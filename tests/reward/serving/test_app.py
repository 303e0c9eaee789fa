import base64
import pickle
import threading

import pytest
import requests
import torch
from PIL import Image

from reward.serving.app import ALONE_HEADER
from reward.serving.limits import Limits
from tests.reward.serving.conftest import base64_of, encoded

ALONE = {ALONE_HEADER: "alone"}


def from_files(reward, images, prompts, kind="PNG"):
    """What a local call says of the same files."""
    import io

    reward.backbone.clear_cache()
    return reward([Image.open(io.BytesIO(encoded(image, kind))) for image in images], prompts).tolist()


def test_scores_through_every_contract_are_the_local_calls(reward, images, prompts, url):
    local = from_files(reward, images, prompts)
    files = [base64_of(image) for image in images]
    score = requests.post(f"{url}/score", json={"images": files, "prompts": prompts}, headers=ALONE)
    assert score.json() == {"scores": local}
    compute = requests.post(f"{url}/compute", json={"image": files, "prompt": prompts, "video": None}, headers=ALONE)
    assert compute.json() == {"rewards": local}
    for protocol in (3, 4, 5):
        body = {"images": [encoded(image) for image in images], "prompts": prompts, "metadata": {}}
        answer = requests.post(url, data=pickle.dumps(body, protocol), headers=ALONE)
        assert pickle.loads(answer.content) == {"scores": local, "outputs": local}
    body["images"] = [encoded(image, "JPEG") for image in images]
    answer = requests.post(url, data=pickle.dumps(body), headers=ALONE)
    assert pickle.loads(answer.content)["scores"] == from_files(reward, images, prompts, "JPEG") != local


def test_merged_requests_differ_by_rounding_only(reward, images, prompts, serve):
    local = [from_files(reward, [image], [prompt])[0] for image, prompt in zip(images, prompts, strict=True)]
    found = {}

    def ask(number):
        body = {"images": [base64_of(images[number % 4])], "prompts": prompts[number % 4]}
        found[number] = requests.post(f"{url}/score", json=body).json()["scores"][0]

    with serve(reward, most_wait=0.2) as url:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        text = requests.get(f"{url}/metrics").text
    torch.testing.assert_close(
        torch.tensor([found[n] for n in range(12)]), torch.tensor(local * 3), rtol=1e-5, atol=1e-5
    )
    batches = float(text.split("hyperalign_batch_pictures_count ")[1].split()[0])
    assert batches < 12, "some were scored together"


def test_scores_of_a_request_alone_do_not_depend_on_earlier_ones(reward, images, prompts, url):
    local = from_files(reward, images, prompts)
    body = {"images": [base64_of(image) for image in images], "prompts": prompts}
    for prompt in prompts:  # each encoded by itself, and remembered
        requests.post(f"{url}/score", json={"images": body["images"][:1], "prompts": prompt})
    reward.backbone._cache[prompts[0]] += 1  # other batches' rounding, made large enough to be seen with any model
    assert requests.post(f"{url}/score", json=body).json()["scores"] != local
    assert requests.post(f"{url}/score", json=body, headers=ALONE).json()["scores"] == local


def test_flow_factorys_two_spellings(reward, images, prompts, url):
    file = "data:image/png;base64," + base64_of(images[0])
    answers = [
        requests.post(f"{url}/compute", json=body).json()
        for body in (
            {"image": [file], "prompt": prompts[:1], "kwargs": {"a": 1}},
            {"images": [file], "prompts": prompts[:1]},
        )
    ]
    assert answers[0] == answers[1] and len(answers[0]["rewards"]) == 1


def test_an_explanation(reward, images, prompts, url):
    from reward.explanation.explain import explain

    body = {"images": [base64_of(image) for image in images[:2]], "prompts": prompts[:2], "explain": True}
    answer = requests.post(f"{url}/score", json=body).json()
    import io

    for index in range(2):
        local = explain(reward, Image.open(io.BytesIO(encoded(images[index]))), prompts[index])
        found = answer["explanations"][index]
        assert found["score"] == answer["scores"][index] == pytest.approx(local.output.score.item(), abs=1e-6)
        assert found["sentences"][0] == local.sentences[0] and found["worst_phrase"] == local.worst_phrase
        assert found["geometry"]["distance"] == pytest.approx(local.output.distance.item(), rel=1e-5)
        assert [phrase["text"] for phrase in found["phrases"]] == [phrase.text for phrase in local.phrases.phrases]
        margins = [phrase.margin for phrase in local.phrases.phrases]
        assert [phrase["margin"] for phrase in found["phrases"]] == pytest.approx(margins, abs=1e-5)


def test_health_metrics_and_the_open_api_page(reward, images, url):
    assert requests.get(f"{url}/health").json() == {"status": "ok", "model": ""}
    requests.post(f"{url}/score", json={"images": [base64_of(images[0])], "prompts": "a red circle"})
    requests.post(f"{url}/score", json={"images": [], "prompts": []})
    text = requests.get(f"{url}/metrics").text
    for line in (
        'hyperalign_requests_total{contract="json",status="200"} 1.0',
        'hyperalign_requests_total{contract="json",status="422"} 1.0',
        'hyperalign_pictures_total{contract="json"} 1.0',
        "hyperalign_queued_pictures 0.0", "hyperalign_held_bytes 0.0", "hyperalign_held_pixels 0.0",
    ):  # fmt: skip
        assert line in text, text
    paths = requests.get(f"{url}/openapi.json").json()["paths"]
    assert {"/score", "/compute", "/", "/health", "/metrics"} == set(paths)
    schema = paths["/score"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"images", "prompts", "explain"}
    assert "swagger" in requests.get(f"{url}/docs").text.lower()


def test_a_token(reward, images, serve):
    body = {"images": [base64_of(images[0])], "prompts": "a red circle"}
    with serve(reward, token="secret") as url:
        assert requests.get(f"{url}/health").ok
        for given in ("", "Bearer other", "secret", "Bearer ", "Basic secret"):
            headers = {"Authorization": given}
            answer = requests.post(f"{url}/score", json=body, headers=headers)
            assert answer.status_code == 401 and "Bearer" in answer.json()["error"]
        assert requests.get(f"{url}/metrics").status_code == 401
        assert requests.post(f"{url}/score", json=body, headers={"Authorization": "Bearer secret"}).ok


def test_a_busy_server_says_so(reward, images, prompts, serve):
    body = {"images": [base64_of(image) for image in images], "prompts": prompts}
    for limits, words in (
        (Limits(queued_pictures=3), "busy: 0 pictures wait and 3 may"),
        (Limits(held_bytes=100), "bytes of requests"),
    ):
        with serve(reward, limits) as url:
            answer = requests.post(f"{url}/score", json=body)
            assert answer.status_code == 429 and words in answer.json()["error"]
            assert int(answer.headers["Retry-After"]) >= 1


def test_a_fault_of_the_model_is_a_500_and_the_next_request_is_answered(reward, images, serve):
    class Faulty(torch.nn.Module):
        backbone = reward.backbone

        def forward(self, pictures, prompts):
            if prompts == ["fault"]:
                raise RuntimeError("out of memory, at /secret/place")
            return torch.zeros(len(pictures))

    with serve(Faulty()) as url:
        bodies = [{"images": [base64_of(images[0])], "prompts": prompt} for prompt in ("fault", "fine")]
        answer = requests.post(f"{url}/score", json=bodies[0])
        assert answer.status_code == 500 and "secret" not in answer.text
        assert requests.post(f"{url}/score", json=bodies[1]).json() == {"scores": [0.0]}
        assert 'status="500"} 1.0' in requests.get(f"{url}/metrics").text


def test_base64_of_a_jpeg_differs_from_the_picture_by_its_own_loss(reward, images, prompts, url):
    """A JPEG's scores are those of the JPEG; how far they lie from the picture's is the format's doing."""
    file = base64.b64encode(encoded(images[0], "JPEG", quality=95)).decode()
    answer = requests.post(f"{url}/score", json={"images": [file], "prompts": prompts[:1]}, headers=ALONE).json()
    assert answer["scores"][0] == pytest.approx(from_files(reward, images[:1], prompts[:1])[0], abs=0.1)
