package dev.toolkit.trainer

import dev.toolkit.trainer.Fixtures.options
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.EngineException
import dev.toolkit.trainer.store.BUNDLE_FORMAT_VERSION
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
import kotlin.concurrent.thread

/** The bridge: the same engine as the command line, and no way to crash the process. */
@RunWith(RobolectricTestRunner::class)
class EngineTest {
    @get:Rule val temporary = TemporaryFolder()

    @Test
    fun `trains to the same bits as the command line`() {
        val out = File(temporary.root, "run")
        Engine.open(options(out)).use { trainer ->
            assertEquals(0, trainer.progress().step)
            while (trainer.step()) assertTrue(trainer.progress().loss > 0)
            val end = trainer.progress()
            assertEquals(8, end.step)
            assertFalse(end.running)
            assertFalse(end.stopped)
        }
        assertArrayEquals(Fixtures.referenceAdapter(), File(out, "adapter_model.safetensors").readBytes())
    }

    @Test
    fun `a dry run tells what a run will hold, and leaves nothing`() = DryRuns.check(temporary.root)

    @Test
    fun `describes itself`() {
        val info = Engine.info()
        assertEquals(BUNDLE_FORMAT_VERSION, info.getInt("format_version"))
        assertTrue(info.getInt("threads") >= 1)
    }

    @Test
    fun `a failure is an exception with the engine's words, in any script`() {
        val out = File(temporary.root, "läuft-東京-🙂")
        val wrong = options(out) + ("bundle" to File(temporary.root, "fehlt-🙂").path)
        val error = assertThrows(EngineException::class.java) { Engine.open(wrong) }
        assertTrue(error.message, "fehlt-🙂" in error.message!!)
        assertEquals(1, error.status)
        val usage = assertThrows(EngineException::class.java) { Engine.open(options(out) + ("steps" to "many")) }
        assertEquals(2, usage.status)
    }

    @Test
    fun `closing twice and calling late do no harm`() {
        val trainer = Engine.open(options(File(temporary.root, "run")))
        trainer.close()
        trainer.close()
        trainer.requestStop()
        trainer.note("paused", "too late")
        assertThrows(EngineException::class.java) { trainer.step() }
        assertThrows(EngineException::class.java) { trainer.progress() }
    }

    @Test
    fun `a second run at a time is refused, a next one is not`() {
        Engine.open(options(File(temporary.root, "a"))).use {
            val error = assertThrows(EngineException::class.java) { Engine.open(options(File(temporary.root, "b"))) }
            assertTrue("another run is open" in error.message!!)
        }
        Engine.open(options(File(temporary.root, "c"))).close()
    }

    @Test
    fun `may be stopped and closed from other threads while it steps`() {
        repeat(5) { round ->
            val trainer = Engine.open(options(File(temporary.root, "run$round"), steps = 100_000))
            val steps = thread {
                try {
                    while (trainer.step()) Unit
                } catch (_: EngineException) {
                    // Closed under way.
                }
            }
            Thread.sleep(20)
            repeat(3) { trainer.progress() }
            if (round % 2 == 0) trainer.requestStop()
            trainer.close()
            steps.join(20_000)
            assertFalse(steps.isAlive)
        }
        Engine.open(options(File(temporary.root, "after"))).close()
    }
}
