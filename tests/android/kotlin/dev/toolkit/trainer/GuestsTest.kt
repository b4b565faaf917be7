package dev.toolkit.trainer

import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.Trial
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.RunState
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import java.io.File
import java.util.concurrent.CountDownLatch
import kotlin.concurrent.thread

/** One engine for all: a run comes first, and nobody has it beside one. */
@RunWith(RobolectricTestRunner::class)
class GuestsTest : ServiceCase() {
    private fun refusal(): String = assertThrows(AppException::class.java) { app.controller.lend { error("not let in") } }.message!!

    @Test
    fun `a run that begins has the engine at once, whoever had it`() {
        Fixtures.create(app, "short")
        val open = CountDownLatch(1)
        var left = false
        val guest = thread {
            app.controller.lend { guest ->
                Engine.open(Fixtures.options(File(temporary.root, "guest"), steps = 1_000_000)).use { trainer ->
                    guest.whenWanted(trainer::requestStop)
                    open.countDown()
                    while (trainer.step()) Unit
                    left = guest.isWanted
                }
            }
        }
        open.await()
        assertTrue("asked or tried" in refusal())
        app.controller.start("short")
        assertTrue(app.controller.join(30_000))
        guest.join(10_000)
        assertTrue(left)
        assertEquals(RunState.COMPLETED, app.runs.require("short").state)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(app.runs.require("short")))
        assertEquals("it can be had again", 7, app.controller.lend { 7 })
    }

    @Test
    fun `nobody is let in beside a run, or on a hot phone`() {
        app.controller.start("a")
        await("a step") { app.controller.active?.doing == Doing.TRAINING }
        assertTrue("“a” is active" in refusal())
        val trial = Trial(app.controller, File(app.cacheDir, "trial"), app.estimates)
        val error = assertThrows(AppException::class.java) { trial.measure(app.bundles.require("tiny"), app.data.require("rows"), Fixtures.reference) }
        assertTrue("“a” is active" in error.message!!)
        assertEquals("the run goes on", Doing.TRAINING, app.controller.active?.doing)
        app.controller.pause()
        assertTrue(app.controller.join(30_000))
        Fixtures.power(plugged = false, level = 10)
        assertEquals("without charger and hours", 7, app.controller.lend { 7 })
        Fixtures.power(plugged = true, level = 80, celsius = 45f)
        assertTrue("Not now. The battery is at 45" in refusal())
    }

    @Test
    fun `who comes while somebody is in for a moment waits for it`() {
        val data = app.data.require("rows")
        val asking = List(4) { thread { repeat(5) { runCatching { app.controller.needs(app.bundles.require("tiny"), data, Fixtures.reference) } } } }
        repeat(20) { assertEquals(it, app.controller.lend { _ -> it }) }
        asking.forEach { it.join(30_000) }
        app.controller.start("a")
        await("a step") { app.controller.active?.doing == Doing.TRAINING }
        assertThrows(AppException::class.java) { app.controller.needs(app.bundles.require("tiny"), data, Fixtures.reference) }
    }

    @Test
    fun `who is asked to leave before it is in leaves`() {
        var asked = 0
        val inside = CountDownLatch(1)
        val wanted = CountDownLatch(1)
        val guest = thread {
            app.controller.lend { guest ->
                inside.countDown()
                wanted.await()
                guest.whenWanted { asked++ }
            }
        }
        inside.await()
        app.controller.start("a")
        Thread.sleep(200)
        assertEquals("not beside it", Doing.OPENING, app.controller.active!!.doing)
        wanted.countDown()
        guest.join(10_000)
        assertEquals(1, asked)
        await("a step") { app.controller.active?.doing == Doing.TRAINING }
    }
}
