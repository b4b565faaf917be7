package dev.toolkit.trainer

import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.store.TraceReader
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import java.io.File

/** A run is of one text and one model, whatever lies under their names later; and it ends with the best it had. */
@RunWith(RobolectricTestRunner::class)
class RunIdentityTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp

    @Before
    fun deploy() {
        app = Fixtures.deploy(temporary)
    }

    private fun text(vararg of: String): DataSet =
        TextData(app.folders).make("mine", app.bundles.require("words"), listOf(of.joinToString("") { it.repeat(60) }))

    private fun finished(name: String): Run {
        app.controller.start(name)
        assertTrue("still active", app.controller.join(120_000))
        return app.runs.require(name)
    }

    private fun paused(bundle: String, data: DataSet): Run {
        app.runs.create("a", app.bundles.require(bundle), data, RunSettings(steps = 100_000, threads = 1))
        val pause: () -> Unit = { if ((app.controller.active?.progress?.step ?: 0) >= 2) app.controller.pause() }
        app.controller.addListener(pause)
        val run = finished("a")
        app.controller.removeListener(pause)
        assertEquals(run.reason, RunState.PAUSED, run.state)
        return run
    }

    private fun refused(before: Run, words: String) {
        val adapter = Fixtures.adapter(before)
        val run = finished("a")
        assertEquals(RunState.FAILED, run.state)
        assertTrue(run.reason, words in run.reason)
        assertArrayEquals(adapter, Fixtures.adapter(run))
    }

    @Test
    fun `a run does not go on with another text under the name of its own`() {
        val first = text("hello there. ", "how are you? ")
        val before = paused("words", first)
        app.data.delete("mine")
        val second = text("how are you? ", "hello there. ")
        assertEquals("only the order differs", first.sequences to first.sequenceLength, second.sequences to second.sequenceLength)
        refused(before, "was saved with other data")
    }

    @Test
    fun `a run does not go on with a model whose files are others`() {
        val before = paused("tiny", app.data.require("rows"))
        val bundle = app.bundles.require("tiny").folder
        val weights = File(bundle, "base.ptd")
        val original = weights.readBytes()
        File(Fixtures.folder, "bundles/words/base.ptd").copyTo(weights, overwrite = true)
        val error = assertThrows(AppException::class.java) { app.controller.start("a") }
        assertTrue("$error", "base.ptd has" in error.message!! && app.controller.active == null)
        weights.writeBytes(original)
        val programs = File(bundle, "programs.pte")
        val bytes = programs.readBytes()
        bytes[bytes.size / 2]++
        programs.writeBytes(bytes)
        refused(before, "programs.pte is damaged or of another export")
    }

    @Test
    fun `a run that no longer learns ends early with the best it had`() {
        val data = text("hello there, how are you? ", "hello there, how are you? ")
        val settings = RunSettings(
            steps = 3000, learningRate = 3e-2, schedule = "constant", maxGradNorm = 1.0, evalEvery = 4, patience = 2, keep = "best", threads = 1,
        )
        app.runs.create("a", app.bundles.require("words"), data, settings)
        val run = finished("a")
        assertEquals(run.reason, RunState.COMPLETED, run.state)
        assertTrue("step ${run.step}", run.step < settings.steps)
        val evaluations = TraceReader(run.trace).read().evaluations
        val best = evaluations.minByOrNull { it.second }!!
        assertEquals("two more brought nothing", best.first + 2 * settings.evalEvery, run.step)
        assertEquals(run.step, evaluations.last().first)
        assertEquals(best.first, run.outcome!!.bestStep)
        // What is tried and shared is the adapter of that step, as a run of so many steps ends with.
        app.runs.create("b", app.bundles.require("words"), data, settings.copy(steps = best.first.toInt(), patience = 0))
        assertArrayEquals(Fixtures.adapter(finished("b")), run.best.readBytes())
    }
}
