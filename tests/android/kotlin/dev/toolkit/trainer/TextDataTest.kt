package dev.toolkit.trainer

import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.DATA_FORMAT_VERSION
import dev.toolkit.trainer.store.Preset
import dev.toolkit.trainer.store.Presets
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.store.TraceReader
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Text to training data on the phone, against `toolkit data`, and a run on it. */
@RunWith(RobolectricTestRunner::class)
class TextDataTest {
    @get:Rule val temporary = TemporaryFolder()

    @Test
    fun `makes the rows that toolkit data makes`() = compareRows("words")

    /** Which puts a token before every text, where the text may have it already, and one behind it. */
    @Test
    fun `makes them with a tokenizer of SentencePiece's kind`() = compareRows("pieces")

    private fun compareRows(bundle: String) {
        val app = Fixtures.deploy(temporary, listOf(bundle))
        val expected = JSONObject(File(Fixtures.folder, "texts/$bundle/rows.json").readText())
        val texts = expected.getJSONArray("texts").let { list -> List(list.length()) { list.getString(it) } }
        val set = TextData(app.folders).make("mine", app.bundles.require(bundle), texts, heldOutOf = Int.MAX_VALUE)
        assertTrue(set.own)
        assertEquals(expected.getJSONArray("tokens").length(), set.sequences)
        val file = ByteBuffer.wrap(set.train.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
        // Each tensor is a segment of its own, 16 KiB after the one before it.
        for ((index, name) in listOf("tokens", "labels", "positions", "start").withIndex()) {
            val rows = expected.getJSONArray(name)
            val actual = IntArray(set.sequences * set.sequenceLength) { file.getInt(16384 * (index + 1) + 4 * it) }
            assertArrayEquals(name, flattened(rows), actual)
        }
    }

    @Test
    fun `says of itself what toolkit data says`() {
        val app = Fixtures.deploy(temporary)
        val set = TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there, how are you?"))
        val words = JSONObject(File(Fixtures.folder, "bundles/words/manifest.json").readText()).getJSONObject("tokenizer")
        val told = JSONObject(File(set.folder, "data.json").readText())
        assertEquals(DATA_FORMAT_VERSION, told.getInt("version"))
        assertEquals(words.getString("sha256"), told.getJSONObject("tokenizer").getString("sha256"))
        val bytes = set.train.readBytes()
        val name = words.getString("name").toByteArray()
        assertTrue("it carries the tokenizer's name", (0..bytes.size - name.size).any { at -> name.indices.all { bytes[at + it] == name[it] } })
        // A byte that changed is found by the engine, which computes the same sums.
        bytes[16384] = (bytes[16384] + 1).toByte()
        set.train.writeBytes(bytes)
        app.runs.create("a", app.bundles.require("words"), set, Fixtures.reference)
        app.controller.start("a")
        assertTrue(app.controller.join(60_000))
        val run = app.runs.require("a")
        assertEquals(RunState.FAILED, run.state)
        assertTrue(run.reason, run.reason.orEmpty().contains("tokens is damaged"))
    }

    @Test
    fun `refuses tokens that the model has no row for`() {
        val app = Fixtures.deploy(temporary)
        val bundle = app.bundles.require("words")
        val data = TextData(app.folders)
        val most = data.make("all", bundle, listOf("hello there")).train.let { file ->
            val bytes = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
            (0 until bundle.sequenceLengths.max()).maxOf { bytes.getInt(16384 + 4 * it) }
        }
        data.make("enough", bundle.copy(vocabulary = most + 1), listOf("hello there"))
        val error = assertThrows(AppException::class.java) { data.make("few", bundle.copy(vocabulary = most), listOf("hello there")) }
        assertTrue(error.message, "token number $most" in error.message!!)
        assertTrue("nothing is left behind", app.data.find("few") == null)
    }

    @Test
    fun `a run learns from it`() {
        val app = Fixtures.deploy(temporary)
        val set = TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there, how are you? ".repeat(40)))
        val settings = Fixtures.reference.copy(steps = 20, learningRate = 5e-3)
        app.runs.create("a", app.bundles.require("words"), set, settings)
        app.controller.start("a")
        assertTrue(app.controller.join(60_000))
        val run = app.runs.require("a")
        assertEquals(run.reason, RunState.COMPLETED, run.state)
        val steps = TraceReader(run.trace).read().steps
        assertTrue(steps.last().loss!! < 0.8 * steps.first().loss!!)
    }

    @Test
    fun `a twentieth is held out, and a run says what came of it, keeps the best and can be prolonged`() {
        val app = Fixtures.deploy(temporary)
        val bundle = app.bundles.require("words")
        val set = TextData(app.folders).make("mine", bundle, listOf("hello there, how are you? ".repeat(120)))
        assertTrue("${set.sequences}", set.sequences >= 20)
        assertTrue(set.hasValidation)
        val all = set.sequences + set.validationSequences
        assertTrue("${set.validationSequences} of $all", set.validationSequences in all / 20..all / 20 + 1)
        val settings = Presets.settings(Preset.THOROUGH, set)
        assertEquals(8, settings.steps * settings.gradientAccumulation / set.sequences)
        app.runs.create("a", bundle, set, settings.copy(learningRate = 5e-3, steps = 60, evalEvery = 10, threads = 1, trace = "full"))
        app.controller.start("a")
        assertTrue(app.controller.join(120_000))
        val run = app.runs.require("a")
        assertEquals(run.reason, RunState.COMPLETED, run.state)
        val outcome = run.outcome!!
        val evaluations = TraceReader(run.trace).read().evaluations
        assertTrue(outcome.heldOut)
        assertEquals(evaluations.minOf { it.second }.toDouble(), outcome.after, 1e-6)
        assertTrue("${outcome.percent} %", outcome.percent in 5..100)
        assertTrue(run.best.path, "best/step-${outcome.bestStep}" in run.best.path)
        assertTrue("what it took is known", app.estimates.find(bundle, set.sequenceLength, 1)!!.secondsPerSequence > 0)
        assertEquals(120, app.runs.prolong("a").settings.steps)
        assertEquals("a long trace takes its storage", "steps", app.runs.require("a").settings.trace)
        assertEquals(0, app.runs.require("a").settings.patience)
        assertEquals(RunState.PAUSED, app.runs.require("a").state)
        app.controller.start("a")
        assertTrue(app.controller.join(120_000))
        assertEquals(app.runs.require("a").reason, 120, app.runs.require("a").step)
    }

    @Test
    fun `a short text is learned as a whole`() {
        val app = Fixtures.deploy(temporary)
        val set = TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there, how are you? ".repeat(9)))
        assertFalse(set.hasValidation)
        val settings = Presets.settings(Preset.NORMAL, set)
        assertEquals("a sequence at a time", 1, settings.gradientAccumulation)
        assertEquals(3 * set.sequences, settings.steps)
        assertEquals(0, settings.patience)
        settings.check()
    }

    @Test
    fun `refuses nothing, almost nothing and a taken name, and deletes`() {
        val app = Fixtures.deploy(temporary)
        val data = TextData(app.folders)
        val bundle = app.bundles.require("words")
        assertThrows(AppException::class.java) { data.make("mine", bundle, listOf(" \n")) }
        for (name in listOf("../mine", "", "a/b", "x".repeat(65), ".hidden", "mine.part")) {
            assertThrows(name, AppException::class.java) { data.make(name, bundle, listOf("hello")) }
        }
        assertThrows(AppException::class.java) { data.make("mine", app.bundles.require("tiny"), listOf("hello")) }
        data.make("mine", bundle, listOf("hello there"))
        assertThrows(AppException::class.java) { data.make("mine", bundle, listOf("hello there")) }
        val folder = app.data.require("mine").folder
        app.data.delete("mine")
        assertFalse(folder.exists())
        app.data.delete("rows")
        assertTrue("deployed data is not the user's to delete here", app.data.find("rows") != null)
    }

    private fun flattened(rows: JSONArray): IntArray =
        (0 until rows.length()).flatMap { row -> rows.getJSONArray(row).let { values -> List(values.length()) { values.getInt(it) } } }
            .toIntArray()
}
