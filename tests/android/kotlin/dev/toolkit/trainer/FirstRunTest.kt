package dev.toolkit.trainer

import android.app.Activity
import android.content.Intent
import android.view.View
import android.widget.EditText
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.Sample
import dev.toolkit.trainer.ui.AskActivity
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.WelcomeActivity
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import java.io.File

/** From an app that was just installed to a model that answers, with the real engine and the APK's own sample. */
@RunWith(RobolectricTestRunner::class)
class FirstRunTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp
    private var taps = 0

    @Before
    fun install() {
        app = Fixtures.deploy(temporary, emptyList())
        File(Fixtures.deployed(), "data").deleteRecursively()
        // Threads change the order of sums, and the command line is compared with.
        app.policy.write(app.policy.read().copy(threads = 1))
    }

    @After
    fun end() {
        app.asking.stop()
        await("the end of an answer") { !app.asking.errand.running }
        app.controller.stop()
        assertTrue(app.controller.join(60_000))
    }

    private fun tap(screen: Activity, id: Int) {
        val view = screen.requireViewById<View>(id)
        assertTrue("cannot be tapped", view.isShown && view.isEnabled && view.isClickable)
        view.performClick()
        taps++
    }

    /** The screen that [from] opened. */
    private fun <T : Activity> opened(from: Activity, type: Class<T>): T {
        var intent: Intent? = null
        await("the next screen") {
            intent = intent ?: shadowOf(from).nextStartedActivity
            intent != null
        }
        assertEquals(type.name, intent!!.component!!.className)
        return Robolectric.buildActivity(type, intent).setup().get()
    }

    @Test
    fun `four taps from the installation to a model that answers, on battery and without a computer`() {
        Fixtures.power(plugged = false, level = 60)
        val first = Robolectric.buildActivity(MainActivity::class.java).setup().get()
        val welcome = opened(first, WelcomeActivity::class.java)
        await("the engine") { text(welcome, "1 of 3") }
        tap(welcome, R.id.next)
        tap(welcome, R.id.next)
        await("the engine") { welcome.requireViewById<View>(R.id.sample).isEnabled }
        tap(welcome, R.id.sample)
        val page = opened(welcome, RunActivity::class.java)
        assertTrue("the introduction is over", welcome.isFinishing)
        val started = shadowOf(app).nextStartedService
        val service = Robolectric.buildService(TrainingService::class.java, started).create()
        service.get().onStartCommand(started, 0, 1)
        await("the training", 120) { app.controller.active == null && app.runs.require(Sample.NAME).state == RunState.COMPLETED }
        val run = app.runs.require(Sample.NAME)
        val outcome = run.outcome!!
        assertTrue("on text that it did not learn from: $outcome", outcome.heldOut)
        assertTrue("$outcome", outcome.percent >= 10)
        await("the result in words") { text(page, "Your texts surprise the model ${outcome.percent}\u00A0% less") }
        tap(page, R.id.ask)
        val ask = opened(page, AskActivity::class.java)
        await("the answers", 120) { app.asking.question != null && !app.asking.errand.running }
        val (before, after) = listOf(R.id.before, R.id.after)
            .map { ask.requireViewById<View>(it).requireViewById<TextView>(R.id.answer).text.toString() }
        assertTrue("“$before” and “$after”", before.length > 20 && after.length > 20)
        assertNotEquals(before, after)
        assertEquals(4, taps)
        keep()
        service.destroy()
    }

    /** For tools/android/check_first_run.py, which has the APK's own files do the same. */
    private fun keep() {
        val results = File(System.getProperty("toolkit.results")!!, "first-run")
        results.deleteRecursively()
        val run = app.runs.require(Sample.NAME)
        File(app.folders.data, Sample.NAME).copyRecursively(File(results, "data"))
        run.folder.copyRecursively(File(results, "run"))
    }

    @Test
    fun `the introduction comes once and can be left, and the sample is still offered`() {
        val first = Robolectric.buildActivity(MainActivity::class.java).setup()
        val welcome = opened(first.get(), WelcomeActivity::class.java)
        tap(welcome, R.id.skip)
        assertTrue(welcome.isFinishing)
        first.pause().stop().start().resume()
        await("the offer") { first.get().requireViewById<View>(R.id.sample).isShown }
        assertNull("no second time", shadowOf(first.get()).nextStartedActivity)
        tap(first.get(), R.id.sample)
        opened(first.get(), RunActivity::class.java)
        assertEquals(TrainingService.START, shadowOf(app).nextStartedService.action)
        first.pause().stop().start().resume()
        await("the list") { !first.get().requireViewById<View>(R.id.sample).isShown }
        assertTrue(text(first.get(), "little-austen"))
        first.close()
    }

    @Test
    fun `what is ready while the introduction is not looked at is shown when it is`() {
        val welcome = Robolectric.buildActivity(WelcomeActivity::class.java).setup()
        repeat(2) { welcome.get().requireViewById<View>(R.id.next).performClick() }
        await("the engine") { welcome.get().requireViewById<View>(R.id.sample).isEnabled }
        welcome.get().requireViewById<View>(R.id.sample).performClick()
        welcome.pause().stop()
        await("the sample") { !app.sampling.running }
        assertNull(shadowOf(welcome.get()).nextStartedActivity)
        assertNull("from the background none may begin", shadowOf(app).nextStartedService)
        welcome.start().resume()
        opened(welcome.get(), RunActivity::class.java)
        assertTrue(welcome.get().isFinishing)
        assertEquals(TrainingService.START, shadowOf(app).nextStartedService.action)
    }

    @Test
    fun `what is there of the sample is used again, what is torn is made anew`() {
        val run = app.sample.prepare()
        val model = File(app.folders.own, "bundles/${Sample.MODEL}")
        val data = File(app.folders.data, "${Sample.NAME}/train.ptd")
        val made = listOf(File(model, "base.ptd"), data).map { it.lastModified() }
        assertEquals(run.created, app.sample.prepare().created)
        assertEquals(made, listOf(File(model, "base.ptd"), data).map { it.lastModified() })
        val rows = data.readBytes()
        File(model, "base.ptd").delete()
        data.delete()
        app.sample.prepare()
        assertNull(app.bundles.require(Sample.MODEL).problem)
        assertTrue(rows.contentEquals(data.readBytes()))
        assertTrue(app.data.require(Sample.NAME).hasValidation)
    }

    @Test
    fun `only the sample's run is asked something by itself`() {
        File(Fixtures.folder, "bundles/words").copyRecursively(File(Fixtures.deployed(), "bundles/words"))
        File(Fixtures.folder, "data/rows").copyRecursively(File(Fixtures.deployed(), "data/rows"))
        val own = Fixtures.talker(app)
        val ask = Robolectric.buildActivity(AskActivity::class.java, AskActivity.intent(app, own.name)).setup().get()
        await("the engine") { ask.requireViewById<View>(R.id.go).isEnabled }
        assertFalse(app.asking.errand.running)
        assertEquals("", ask.requireViewById<EditText>(R.id.prompt).text.toString())
    }
}
